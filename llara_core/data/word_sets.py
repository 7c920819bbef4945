"""Word sets: the plain measure of how alike two texts are."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

import numpy as np
from numpy.typing import NDArray

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


def similarities(texts: Iterable[str], others: Iterable[str]) -> Iterator[NDArray[np.float64]]:
    """Yield for each text the Jaccard similarity of its word set with those of all other texts, [O].

    Only texts that share a word are compared, by an inverted index: counting the shared words per other
    text costs the length of the posting lists, not the product of the two lists' texts.
    A text without words has 0 with all.
    """
    other_sets = [word_set(text) for text in others]
    sizes = np.array([len(words) for words in other_sets], np.int64)
    postings: dict[str, list[int]] = defaultdict(list)
    for place, words in enumerate(other_sets):
        for word in words:
            postings[word].append(place)
    lists = {word: np.array(places, np.int64) for word, places in postings.items()}
    for text in texts:
        words = word_set(text)
        found = [lists[word] for word in words if word in lists]
        if not found:
            yield np.zeros(len(sizes))
            continue
        shared = np.bincount(np.concatenate(found), minlength=len(sizes))
        yield shared / (len(words) + sizes - shared)
