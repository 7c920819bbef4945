"""Cutting characters before tokenising never changes the first tokens."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest

from llara_core.model import long_text
from llara_core.model.long_text import beginning
from llara_core.model.prompts import TEMPLATES, PromptEncoder
from tests.oracles.tokenizers import KINDS, WORDS

TEXTS = {
    "words": lambda random: " ".join(random.choice(" ".join(WORDS).split(), 9000)),
    "no spaces": lambda random: "".join(random.choice([*"abcdethe"], 40000)),
    "one letter": lambda random: "a" * 40000,
    "white space": lambda random: " \n\t " * 10000,
    "words after white space": lambda random: " " * 30000 + "the harbour opens " * 2000,
    "script without spaces": lambda random: "".join(random.choice([*"要約文章次の"], 40000)),
    "combining marks": lambda random: "e\u0301o\u0308\u200d" * 9000,
    "emoji": lambda random: "👩‍👩‍👧" * 6000,
    "surrogates": lambda random: "\ud800 the \udfff" * 6000,
    "numbers": lambda random: "".join(random.choice([*"0123456789.,"], 40000)),
    "one long word first": lambda random: "x" * 9000 + " the harbour opens at dawn" * 1500,
    "special names": lambda random: "</s> <s> the <s1> " * 3000,
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut early, so that texts of 40,000 characters count as very long."""
    monkeypatch.setattr(long_text, "LEAST_CHARACTERS", 256)


def prompt_encoder(kind: str, length: int = 32) -> PromptEncoder:
    tokenizer = KINDS[kind]()
    slots = [*TEMPLATES["slots"].ebae_slots, *TEMPLATES["slots"].ebar_slots]
    tokenizer.add_special_tokens({"additional_special_tokens": slots})
    return PromptEncoder(TEMPLATES["slots"], tokenizer, length, length)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TEXTS)
def test_the_first_tokens_are_those_of_the_whole_text(kind: str, name: str) -> None:
    encoder = prompt_encoder(kind)
    for seed in range(3):
        text = TEXTS[name](np.random.default_rng(seed))
        (whole,) = encoder._ids([text])
        for tokens in (1, 5, 32, 33, 200):
            cut = beginning(text, tokens, encoder._ids)
            assert text.startswith(cut)
            assert encoder.text_ids([text], tokens) == [whole[:tokens]]


def test_ordinary_texts_are_not_looked_at() -> None:
    def refuse(texts: object) -> list[list[int]]:
        raise AssertionError("tokenised for nothing")

    assert beginning("a" * 2048, 32, refuse) == "a" * 2048


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_cut_when_it_has_one_token_too_many(kind: str) -> None:
    encoder = prompt_encoder(kind, length=4)
    (ids,) = encoder._ids(["the sum of two numbers in the harbour"])
    assert len(ids) > 5
    for text in ("", " ", "the"):
        assert encoder.encode_counted([text], "passage")[1] == 0
    texts = ["the sum of two numbers in the harbour", "the", " ".join(["harbour"] * 50)]
    rows, cut = encoder.encode_counted(texts, "passage")
    assert cut == 2 and rows == encoder.encode_batch(texts, "passage")
    assert rows[0] == [*encoder.prefix_ids, *ids[:4], *encoder.ebae_suffix_ids]
    for length in range(len(ids) - 2, len(ids) + 2):
        assert encoder.encode_counted(texts[:1], "passage", length)[1] == (len(ids) > length)


def test_a_document_of_ten_megabytes_takes_the_time_of_its_beginning() -> None:
    encoder = prompt_encoder("byte-level", 512)
    text = "the harbour opens at dawn and closes when the last ship is in. " * 160_000
    assert len(text) > 10_000_000
    seconds = []
    for size in (len(text) // 100, len(text)):
        started = time.process_time()
        rows, cut = encoder.encode_counted([text[:size]], "passage")
        seconds.append(time.process_time() - started)
        assert cut == 1 and len(rows[0]) == 512 + len(encoder.prefix_ids) + 1
    assert all(later < 20 * earlier + 0.5 for earlier, later in pairwise(seconds))
