"""Leaks planted on purpose: five ways in which a query may come into training."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

KEPT = (2 / 3, 0.9)  # share of the words that a truncated copy keeps, drawn evenly
_AROUND = 12  # words before and after an embedded query


def verbatim(text: str, rng: np.random.Generator, others: Sequence[str]) -> str:
    """The query itself."""
    del rng, others
    return text


def case_and_punctuation(text: str, rng: np.random.Generator, others: Sequence[str]) -> str:
    """Other case; punctuation taken out, or commas put between words."""
    del others
    text = (str.upper, str.lower, str.title)[rng.integers(3)](text)
    if rng.random() < 0.5:
        return re.sub(r"[^\w\s]+", " ", text)
    return ", ".join(text.split()) + " !"


def truncated(text: str, rng: np.random.Generator, others: Sequence[str]) -> str:
    """The first or the last two thirds to nine tenths of the words."""
    del others
    words = text.split()
    kept = int(np.ceil(rng.uniform(*KEPT) * len(words)))
    return " ".join(words[:kept] if rng.random() < 0.5 else words[len(words) - kept :])


def one_word_changed(text: str, rng: np.random.Generator, others: Sequence[str]) -> str:
    """Any one word replaced by a word of another text."""
    words = text.split()
    donor = others[rng.integers(len(others))].split()
    words[rng.integers(len(words))] = donor[rng.integers(len(donor))]
    return " ".join(words)


def embedded(text: str, rng: np.random.Generator, others: Sequence[str]) -> str:
    """The query in the middle of another text."""
    words = others[rng.integers(len(others))].split()
    return " ".join([*words[:_AROUND], text, *words[_AROUND : 2 * _AROUND]])


KINDS: dict[str, Callable[[str, np.random.Generator, Sequence[str]], str]] = {
    "verbatim": verbatim,
    "case and punctuation": case_and_punctuation,
    "truncated": truncated,
    "one word changed": one_word_changed,
    "embedded": embedded,
}
REQUIRED = {
    "verbatim": 0.99,
    "case and punctuation": 0.99,
    "truncated": 0.95,
    "one word changed": 0.95,
    "embedded": 0.95,
}


def planted(kind: str, queries: Sequence[str], others: Sequence[str], seed: int = 0) -> list[str]:
    """A copy of each query, made in the way of ``kind``; the same for the same seed.

    Args:
        kind: a key of ``KINDS``.
        queries: what leaks.
        others: texts to take words from; none of them empty.
        seed: of all draws.
    """
    rng = np.random.default_rng([seed, sorted(KINDS).index(kind)])
    return [KINDS[kind](text, rng, others) for text in queries]
