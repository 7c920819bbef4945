from __future__ import annotations

import hashlib
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llara_core.data.shingle_hashes import (
    KEY_BYTES,
    blocks,
    counts_per_text,
    fold,
    keys_and_words,
    ngram_hashes,
)


def keys(texts):
    raw, _ = keys_and_words(texts)
    return [raw[at : at + KEY_BYTES] for at in range(0, len(raw), KEY_BYTES)]


def words_of(text):
    _, words = keys_and_words([text])
    return words.hashes.tolist()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Hello, World!", "hello world"),
        ("hello\nworld", "helloworld"),
        ("soft\u00adhyphen", "softhyphen"),
        ("zero\u200bwidth \u202eoverride", "zerowidth override"),
        ("\ufeffmark", "mark"),
        ("\ufb01ne \uff26ull\uff0dwidth", "fine full width"),
        ("Stra\u00dfe", "STRASSE"),
        ("e\u0301tude", "\u00e9tude"),
        ("don\u2019t", "don't"),
    ],
)
def test_texts_that_differ_in_form_only_share_a_key(one, other):
    first, second = keys([one, other])
    assert first == second


@pytest.mark.parametrize(
    ("one", "other"), [("a b", "a c"), ("1+1", "1 1"), ("!!!", "???"), ("", "!"), ("ab", "ba")]
)
def test_other_texts_have_other_keys(one, other):
    first, second = keys([one, other])
    assert first != second


def test_a_key_does_not_depend_on_process_or_neighbours():
    text = "Hello, World!"
    expected = hashlib.blake2b("helloworld".encode("utf-32-le"), digest_size=16).digest()
    assert keys([text]) == [expected]
    assert keys(["before", text, ""])[1] == expected


def test_words_are_those_one_expects():
    for one, other in (
        ("Hello, World!", "hello world"),
        ("state-of-the-art", "state of the art"),
        ("get_name(x)", "get_name x"),
        ("\u4e2d\u6587", "\u4e2d \u6587"),
        ("\u0939\u093f\u0928\u094d\u0926\u0940 a", "\u0939\u093f\u0928\u094d\u0926\u0940, a"),
    ):
        assert words_of(one) == words_of(other)
    texts = ("one two three", "\u4e2d\u6587", "", "!?", "a+b", "x" * 5000)
    assert [len(words_of(text)) for text in texts] == [3, 2, 0, 0, 2, 1]


def test_ngrams_by_hand():
    _, words = keys_and_words(["a b c d", "a b", "", "b c d"])
    hashes, places = ngram_hashes(words, 3, short=True)
    assert counts_per_text(words, places).tolist() == [2, 1, 0, 1]
    assert hashes[1] == hashes[3] and len(set(hashes.tolist())) == 3  # "b c d" twice
    assert places.tolist() == [0, 1, 4, 6]
    assert len(ngram_hashes(words, 3, short=False)[0]) == 3
    assert len(ngram_hashes(words, 9, short=True)[0]) == 3


def plain_words(text):
    """Words of ASCII letters and digits, one character at a time."""
    found, current = [], ""
    for letter in text.lower() + " ":
        if letter.isalnum() or letter == "_":
            current += letter
        elif current:
            found.append(current)
            current = ""
    return found


@settings(max_examples=60)
@given(st.lists(st.text(st.sampled_from("ab_1 ,.\n+"), max_size=30), max_size=6))
def test_words_and_ngrams_equal_those_of_a_plain_reading(texts):
    _, words = keys_and_words(texts)
    expected = [plain_words(text) for text in texts]
    assert np.diff(words.starts).tolist() == [len(one) for one in expected]
    flat = [word for one in expected for word in one]
    for first, one in zip(words.hashes.tolist(), flat, strict=True):
        for second, other in zip(words.hashes.tolist(), flat, strict=True):
            assert (first == second) == (one == other)
    hashes, _ = ngram_hashes(words, 2, short=True)
    grams = [tuple(one[i : i + 2]) for one in expected for i in range(max(1, len(one) - 1)) if one]
    assert len(set(hashes.tolist())) == len(set(grams)) and len(hashes) == len(grams)


@settings(max_examples=60)
@given(st.lists(st.text(st.characters(codec=None), max_size=20), max_size=5))
def test_any_text_at_all_is_taken(texts):
    """Lone surrogates, unassigned and private characters, and the result does not depend on the block."""
    together, words = keys_and_words(texts)
    assert together == b"".join(keys_and_words([text])[0] for text in texts)
    assert words.hashes.tolist() == [one for text in texts for one in words_of(text)]


def test_folding_is_stable_and_casefold_of_ascii_is_lower():
    for text in ("ABC", "\u0390\u1e9e\ufb01", "\u0130"):
        assert fold(fold(text)) == fold(text)
        assert unicodedata.is_normalized("NFKC", fold(text))


def test_blocks_keep_order_and_bound():
    texts = ["aa", "b", "cccccc", "", "d"]
    made = list(blocks(iter(texts), most=4))
    assert [text for _, block in made for text in block] == texts
    assert [first for first, _ in made] == [0, 2, 3]
    assert list(blocks([])) == []
