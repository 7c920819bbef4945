"""A tokenizer file lays a text out as the bundle does: for every kind of tokenizer and every template."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from llara_core.errors import ModelError
from llara_core.model.export_tokenizers import KINDS, check_prompts, probes, prompt_length, prompt_tokenizer
from llara_core.model.prompts import TEMPLATES, clean, resolve_template
from tests.model.test_prompts import EVERY_KIND, OWN, encoder_of

TEMPLATE_NAMES = [*TEMPLATES, "own"]


def made_up(count: int) -> list[str]:
    """Texts of odd characters, names of special tokens among them."""
    drawn = random.Random(0)
    names = ["</s>", "<s>", "<s1>", "<pad>"]
    parts = ["the", " ", "  ", "\n", *names, "ü", "e\u0301", "東京", "\u0000", "9", ",", "harbour"]
    return ["".join(drawn.choice(parts) for _ in range(drawn.randrange(12))) for _ in range(count)]


@pytest.mark.parametrize("template", TEMPLATE_NAMES)
@pytest.mark.parametrize("kind_of_tokenizer", EVERY_KIND)
def test_the_file_gives_the_bundle_s_ids(kind_of_tokenizer: str, template: str, tmp_path: Path) -> None:
    chosen = resolve_template(OWN if template == "own" else template)
    encoder = encoder_of(chosen, EVERY_KIND[kind_of_tokenizer]())
    for kind in KINDS:
        tokenizer = prompt_tokenizer(encoder, kind)
        tokenizer.enable_truncation(prompt_length(encoder, kind))
        tokenizer.save(str(tmp_path / "t.json"))
        written = Tokenizer.from_file(str(tmp_path / "t.json"))
        written.encode_special_tokens = True
        texts = [*probes(encoder, kind), *made_up(60)]
        got = [row.ids for row in written.encode_batch(texts)]
        assert got == encoder.encode_batch(texts, kind)
        slots = encoder.suffix_ids(kind)[-chosen.slots_per_prompt :]
        assert all(row[-len(slots) :] == slots for row in got)  # however long the text


def test_another_layout_is_found_out() -> None:
    encoder = encoder_of("llama2vec")
    tokenizer = prompt_tokenizer(encoder, "passage")
    tokenizer.encode_special_tokens = True
    with pytest.raises(ModelError, match="gets the ids"):  # nothing is cut
        check_prompts(encoder, "passage", lambda texts: [r.ids for r in tokenizer.encode_batch(texts)], "t")
    tokenizer.enable_truncation(prompt_length(encoder, "passage"))
    check_prompts(encoder, "passage", lambda texts: [r.ids for r in tokenizer.encode_batch(texts)], "t")
    with pytest.raises(ModelError, match="gets the ids"):  # the other suffix
        check_prompts(encoder, "query", lambda texts: [r.ids for r in tokenizer.encode_batch(texts)], "t")


def test_lone_surrogates_are_left_to_the_caller() -> None:
    """No tokenizer takes them; ``clean`` is what the library does first."""
    encoder = encoder_of("slots")
    tokenizer = prompt_tokenizer(encoder, "query")
    with pytest.raises((UnicodeEncodeError, TypeError)):
        tokenizer.encode("a\ud800")
    tokenizer.enable_truncation(prompt_length(encoder, "query"))
    assert tokenizer.encode(clean("a\ud800")).ids == encoder.encode_batch(["a\ud800"], "query")[0]
