"""Which words of a passage the query shares, and the part of the passage where most of them stand.

A text is given back in pieces, *(words, matched)*, that put together are the text again: a browser counts
characters otherwise than Python does, and pieces need no counting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from llara_core.retrieval.bm25_terms import Analyser

Piece = tuple[str, bool]  # a part of a text, and whether it is a matched word

SNIPPET = 320  # characters of a passage in a list of results: about four lines
# Characters of a passage in which matches for a snippet are looked for. What a model read of it (some hundred
# tokens) lies within; a megabyte in every result would cost seconds.
LOOKED_AT = 16_384
# Marked words of a text, at most: a page that draws a hundred thousand of them stands still.
MARKS = 2_000
_LEAD = 48  # characters before the first match of a snippet
_NEAR = 24  # characters within which the edge of a snippet is moved to the edge of a word


@dataclass(frozen=True)
class Snippet:
    """A part of a text.

    Args:
        pieces: of the part.
        before: something was left out before it.
        after: something was left out behind it.
    """

    pieces: Sequence[Piece]
    before: bool
    after: bool


class Matches:
    """Finds the words of one query.

    Words match as they do in BM25: stemmed, stop words left out. ``connections`` finds ``connected``.

    Args:
        query: what was asked.
        analyser: how BM25 cuts text.
    """

    def __init__(self, query: str, analyser: Analyser) -> None:
        self._analyser = analyser
        self._terms = set(analyser.terms(query))
        self._known: dict[str, str | None] = {}

    def whole(self, text: str) -> list[Piece]:
        """The text in pieces, up to ``MARKS`` of them marked."""
        return _pieces(text, self._places(text, MARKS), 0, len(text))

    def snippet(self, text: str, length: int = SNIPPET) -> Snippet:
        """About ``length`` characters with as many different words of the query as can be had.

        The earliest of equals is taken; without a match it is the beginning.
        """
        places = self._places(text[:LOOKED_AT], LOOKED_AT)
        start = _best_start(text, places, length)
        end = len(text) if len(text) <= start + length + _NEAR else _word_edge(text, start + length)
        return Snippet(_pieces(text, places, start, end), start > 0, end < len(text))

    def _places(self, text: str, most: int) -> list[tuple[str, int, int]]:
        """Term, start and end of the words that match."""
        found: list[tuple[str, int, int]] = []
        if not self._terms:
            return found
        for word, start, end in self._analyser.places(text):
            term = self._term(word)
            if term is not None:
                found.append((term, start, end))
                if len(found) == most:
                    break
        return found

    def _term(self, word: str) -> str | None:
        """The term of the query that the word stands for; a word is worked out once."""
        if word not in self._known:
            term = None if word in self._analyser.stop_words else self._analyser.stem(word)
            self._known[word] = term if term in self._terms else None
        return self._known[word]


def _best_start(text: str, places: Sequence[tuple[str, int, int]], length: int) -> int:
    """Where a window begins that holds the most different terms."""
    if len(text) <= length + _NEAR or not places:
        return 0
    inside: Counter[str] = Counter()
    last, most, best = 0, 0, 0
    for term, start, _ in places:
        while last < len(places) and places[last][2] <= start + length - _LEAD:
            inside[places[last][0]] += 1
            last += 1
        if len(inside) > most:
            most, best = len(inside), start
        inside[term] -= 1
        if inside[term] <= 0:  # also a word longer than the window, which never came in
            del inside[term]
    if best <= _LEAD:
        return 0
    # Not beyond what makes the window full at the end of the text.
    return _word_edge(text, max(0, min(best - _LEAD, len(text) - length)))


def _word_edge(text: str, place: int) -> int:
    """The place itself, or a little before it where a word begins."""
    for near in range(place, max(0, place - _NEAR), -1):
        if text[near - 1].isspace():
            return near
    return place


def _pieces(text: str, places: Sequence[tuple[str, int, int]], start: int, end: int) -> list[Piece]:
    pieces: list[Piece] = []
    done = start
    for _, first, last in places:
        if first < done or last > end:
            continue
        if first > done:
            pieces.append((text[done:first], False))
        pieces.append((text[first:last], True))
        done = last
    if done < end or not pieces:
        pieces.append((text[done:end], False))
    return pieces
