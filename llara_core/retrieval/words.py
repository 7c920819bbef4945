"""Word sets: the plain measure of how alike two texts are."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet

_WORD = re.compile(r"\w+")


def word_set(text: str) -> frozenset[str]:
    """Return the lower-cased words (runs of letters, digits and ``_``) of a text."""
    return frozenset(_WORD.findall(text.lower()))


def jaccard(first: AbstractSet[str], second: AbstractSet[str]) -> float:
    """Return shared over joint words, in [0, 1]; two texts without words are equal."""
    if not first and not second:
        return 1.0
    shared = len(first & second)
    return shared / (len(first) + len(second) - shared)
