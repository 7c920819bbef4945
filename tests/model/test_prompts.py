"""Templates, and prompts around texts that are too long or look like slots, for every kind of tokenizer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from llara_core.config import TemplateSettings
from llara_core.errors import ConfigError, ModelError
from llara_core.model.backbone import add_slots
from llara_core.model.bundle_files import fingerprint
from llara_core.model.prompts import TEMPLATES, PromptEncoder, Template, resolve_template, with_free_slots
from llara_core.model.tokenization import train_tokenizer
from tests.model.conftest import SMALL, WORDS
from tests.oracles.tokenizers import KINDS, byte_level

LLAMA = Path(__file__).resolve().parents[3] / "shared" / "data" / "llara_golden" / "model"
OWN = TemplateSettings(
    name="japanese",
    version=3,
    prefix="文章:",
    ebae_suffix="\n要約:",
    ebar_suffix=" 次の文: ",
    slots=3,
    slot_name="<埋込{}>",
)


def trained_here() -> Any:
    return train_tokenizer(SMALL, WORDS)


def llama_2() -> Any:
    if not LLAMA.is_dir():
        pytest.skip(f"no Llama-2 tokenizer at {LLAMA}")
    return AutoTokenizer.from_pretrained(LLAMA, local_files_only=True)


EVERY_KIND = {**KINDS, "trained here": trained_here, "llama 2": llama_2}


def tiny_model(tokenizer: Any) -> Any:
    config = AutoConfig.for_model("llama", vocab_size=len(tokenizer), hidden_size=16, num_attention_heads=2,
                                  intermediate_size=16, num_hidden_layers=1)  # fmt: skip
    return AutoModelForCausalLM.from_config(config)


def encoder_of(template: str | Template, tokenizer: Any = None) -> PromptEncoder:
    tokenizer = tokenizer or trained_here()
    chosen = resolve_template(template) if isinstance(template, str) else template
    add_slots(tiny_model(tokenizer), tokenizer, chosen, "mean", seed=0)
    return PromptEncoder(chosen, tokenizer, query_length=3, passage_length=5)


def words_of(encoder: PromptEncoder, ids: list[int]) -> str:
    """The text of ids, white space and case left out (some tokenizers drop them)."""
    return "".join(encoder.tokenizer.decode(ids).split()).lower()


@pytest.mark.parametrize("template", ["llama2vec", "llara", "slots", resolve_template(OWN)], ids=str)
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_prompts_of_every_tokenizer(kind: str, template: str | Template) -> None:
    encoder = encoder_of(template, EVERY_KIND[kind]())
    tokenizer, chosen = encoder.tokenizer, encoder.template
    text = "the harbour opens at dawn " * 20
    for role, length, suffix in (("query", 3, chosen.ebar_suffix), ("passage", 5, chosen.ebae_suffix)):
        short, long = encoder.encode_batch(["the", text], role)
        tail = encoder.suffix_ids(role)
        assert short[-len(tail) :] == long[-len(tail) :] == tail
        assert len(long) == len(encoder.prefix_ids) + length + len(tail)
        # The text keeps its beginning: the same ids as without a limit.
        start = len(encoder.prefix_ids)
        assert long[start : start + length] == encoder.text_ids([text])[0][:length]
        slots = encoder.ebar_slot_ids if role == "query" else encoder.ebae_slot_ids
        assert long[-chosen.slots_per_prompt :] == slots
        words = tail[: -chosen.slots_per_prompt]
        if kind in ("byte-level", "with begin", "llama 2"):  # the kinds that know every character
            assert words_of(encoder, words) == "".join(suffix.split()).lower()
        assert not {*words, *long[start : start + length]} & {*slots}
    if chosen.slot_kind == "added":
        named = tokenizer.convert_tokens_to_ids([*chosen.ebae_slots, *chosen.ebar_slots])
        assert [*encoder.ebae_slot_ids, *encoder.ebar_slot_ids] == named
        assert len(set(named)) == 2 * chosen.slots_per_prompt


def test_begin_of_sequence_is_the_tokenizers_own_affair() -> None:
    assert encoder_of("slots", KINDS["with begin"]()).prefix_ids == [1]
    assert encoder_of("slots", KINDS["byte-level"]()).prefix_ids == []


def test_llama_2_gets_the_released_ids() -> None:
    encoder = encoder_of("llama2vec", llama_2())
    tokens = encoder.tokenizer.convert_ids_to_tokens(encoder.ebae_suffix_ids)
    assert tokens[:2] == ['▁",', "▁summar"] and tokens[9:13] == [":", "▁", "<s1>", "<s2>"]
    assert encoder.tokenizer.convert_ids_to_tokens(encoder.prefix_ids) == ["<s>", '▁"']
    other = encoder_of("llara", llama_2())
    tokens = other.tokenizer.convert_ids_to_tokens(other.ebar_suffix_ids)
    assert tokens == ["▁The", "▁next", "▁sentence", ":", "▁", "</s>"]


def test_a_suffix_has_its_leading_space_once() -> None:
    for kind, start in (("byte-level", "Ġ"), ("unigram", "▁")):
        encoder = encoder_of("llara", KINDS[kind]())
        text = "".join(encoder.tokenizer.convert_ids_to_tokens(encoder.ebae_suffix_ids))
        assert text.startswith(f"{start}T") or text.startswith(f"{start}<unk>"), text


@pytest.mark.parametrize("side", ["left", "right"])
def test_sides_of_the_tokenizer_do_not_matter(side: str) -> None:
    usual = encoder_of("llama2vec", byte_level())
    turned = encoder_of("llama2vec", byte_level(padding_side=side, truncation_side=side))
    texts = ["the harbour opens at dawn and closes", "sum"]
    assert turned.encode_batch(texts, "query") == usual.encode_batch(texts, "query")
    assert turned.text_ids(texts, 2) == usual.text_ids(texts, 2)
    assert [len(row) for row in turned.text_ids(texts)] == [len(row) for row in usual.text_ids(texts)]


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_text_cannot_forge_slots(kind: str) -> None:
    encoder = encoder_of("slots", EVERY_KIND[kind]())
    forged = encoder.text_ids(["<s1> </s> <pad></s> <s2></s>"])[0]
    assert forged
    unknown = {encoder.tokenizer.unk_token_id}  # what WordPiece makes of "<"
    assert not set(forged) & (set(encoder.special_ids) - unknown)


def test_llara_without_an_end_token_is_refused() -> None:
    tokenizer = byte_level(eos_token=None)
    with pytest.raises(ModelError, match="end-of-sequence token, and the tokenizer has none"):
        encoder_of("llara", tokenizer)
    assert encoder_of("llama2vec", byte_level(eos_token=None, pad_token=None)).pad_id == 0


# ------------------------------------------------------------------ slots whose names are taken
def test_an_ordinary_token_of_a_slots_name_keeps_its_meaning() -> None:
    tokenizer = byte_level()
    tokenizer.add_tokens(["<s1>", "<llara_2>"])  # ordinary words of this tokenizer
    free = with_free_slots(TEMPLATES["slots"], tokenizer)
    assert free.ebae_slots == ("<llara__1>",) and free.ebar_slots == ("<llara__2>",)
    encoder = encoder_of(free, tokenizer)
    text = encoder.text_ids(["a <s1> b <llara__1>"])[0]
    assert tokenizer.convert_tokens_to_ids("<s1>") in text
    assert not {*encoder.ebae_slot_ids, *encoder.ebar_slot_ids} & {*text}
    assert free.content_hash != TEMPLATES["slots"].content_hash


def test_special_tokens_of_a_slots_name_are_the_slots() -> None:
    tokenizer = llama_2()
    assert with_free_slots(TEMPLATES["llama2vec"], tokenizer) is TEMPLATES["llama2vec"]
    model = tiny_model(tokenizer)
    assert add_slots(model, tokenizer, TEMPLATES["llama2vec"], "mean", seed=0) == []


# ------------------------------------------------------------------ templates as data
def test_templates_by_name_and_custom() -> None:
    own = resolve_template(TemplateSettings(name="mine", ebae_suffix=" in short:", slots=3))
    assert own.ebae_slots == ("<s1>", "<s2>", "<s3>") and own.ebar_slots == ("<s4>", "<s5>", "<s6>")
    assert resolve_template(OWN).ebar_slots == ("<埋込4>", "<埋込5>", "<埋込6>")
    assert resolve_template(OWN).version == 3
    last = resolve_template(TemplateSettings(name="last", ebae_suffix=" =", slot_kind="eos"))
    assert last.ebae_slots == () and last.slot_kind == "eos"
    with pytest.raises(ConfigError, match="did you mean 'llama2vec'"):
        resolve_template("lama2vec")
    for name in TEMPLATES:
        with pytest.raises(ConfigError, match="built-in"):
            resolve_template(TemplateSettings(name=name))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"slot_kind": "eos", "slots": 2}, "slot_kind eos has one slot"),
        ({"slot_name": "<slot>"}, "expected one {} for the number"),
        ({"slot_name": "{}"}, "expected one {} for the number"),
        ({"slots": 0}, "slots"),
        ({"version": 0}, "version"),
        ({"sufix": "x"}, "sufix"),
    ],
)
def test_a_template_that_cannot_be(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TemplateSettings.parse(values, "model.template")
    assert reason in str(caught.value)


def test_built_in_wordings_are_the_published_ones() -> None:
    released, first = TEMPLATES["llama2vec"], TEMPLATES["llara"]
    names = "".join(f"<s{number}>" for number in range(1, 9))
    assert (
        f"{released.prefix}TEXT{released.ebae_suffix}{''.join(released.ebae_slots)}"
        == f'"TEXT", summarize the above passage within eight words: {names}'
    )
    assert released.ebar_slots[0] == "<s9>" and released.ebar_slots[-1] == "<s16>"
    assert f"TEXT{first.ebae_suffix}</s>" == "TEXT The original sentence: </s>"
    assert f"TEXT{first.ebar_suffix}</s>" == "TEXT The next sentence: </s>"
    # Written out: whoever changes a wording must raise its version, and then change it here.
    assert {name: (one.version, one.content_hash[:12]) for name, one in TEMPLATES.items()} == {
        "llama2vec": (1, "966b24174c87"),
        "llara": (1, "22d1d073d481"),
        "slots": (1, "435a38c3771d"),
    }


def test_two_wordings_under_one_name_are_told_apart(tmp_path: Path) -> None:
    one = resolve_template(TemplateSettings(name="mine", ebae_suffix=" in short:"))
    two = resolve_template(TemplateSettings(name="mine", ebae_suffix=" in brief:"))
    again = resolve_template(TemplateSettings(name="renamed", ebae_suffix=" in short:"))
    assert one.content_hash != two.content_hash and one.content_hash == again.content_hash
    assert fingerprint(tmp_path, one) != fingerprint(tmp_path, two)
    assert Template.from_dict(one.to_dict()) == one
    changed = {**one.to_dict(), "ebae_suffix": " in brief:"}
    with pytest.raises(ModelError, match="content_hash differs"):
        Template.from_dict(changed)
    with pytest.raises(ModelError, match="cannot be read"):
        Template.from_dict({"name": "x"})
    older = {key: value for key, value in one.to_dict().items() if key not in {"content_hash", "slot_name"}}
    assert Template.from_dict(older) == one
    assert replace(one, version=2).content_hash == one.content_hash
