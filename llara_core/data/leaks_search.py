"""Finding short texts inside much text: whole, cut short, with a word changed, or embedded.

The texts looked for (evaluation queries) are held as hashes of their word trigrams; the text they are
looked for in is streamed. Where a trigram of a query stands in the text, (place in the text) - (place in
the query) is the diagonal it lies on: a copy puts all its trigrams on one, a changed word makes a gap and
an added word a step of one. So trigrams near one diagonal are gathered; then the single words on it are
compared, which a trigram beside a changed word does not cover. What is found says how much of the query
the text shows, in place and in order. Source: the diagonals of FASTA (Lipman & Pearson 1985), on words;
issue 5, point 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llara_core.data.shingle_hashes import HashedWords, blocks, keys_and_words, ngram_hashes
from llara_core.data_settings import LeakSettings
from llara_core.progress import Progress

SEED_WORDS = 3
SLACK = 2  # diagonals between neighbouring hits of one copy: so many words may be added or left out
_FILTER_BITS = 22
_HITS_AT_ONCE = 1 << 20
_PROMISING = 0.3  # of a query's words: less on a diagonal is not looked at word by word

Rows = NDArray[np.int64]
_NONE: Rows = np.zeros(0, np.int64)


class Matches(NamedTuple):
    """Queries found in texts, one entry a copy."""

    queries: Rows  # [M] numbers of the queries
    texts: Rows  # [M] rows of the texts
    covered: Rows  # [M] words of the query that were found
    longest: Rows  # [M] greatest number of them in a row


class Found(NamedTuple):
    """Queries that leak, one entry a query and text."""

    queries: Rows  # [F] numbers of the queries
    rows: Rows  # [F] rows of the texts
    shares: NDArray[np.float64]  # [F] share of the query's words that were found


class SoughtTexts:
    """Texts to look for inside others.

    Args:
        texts: Q texts, all held as hashes: 32 bytes a word.
        settings: what share of a text, and how many words of it, must be found.
        ngram: as many words in a row are enough in any case; None: they are not.
    """

    def __init__(self, texts: Sequence[str], settings: LeakSettings, ngram: int | None = None) -> None:
        self._settings, self._ngram = settings, ngram
        hashes: list[NDArray[np.uint64]] = []
        queries: list[Rows] = []
        places: list[Rows] = []
        sizes: list[Rows] = []
        plain: list[NDArray[np.uint64]] = []
        for first, block in blocks(texts):
            _, words = keys_and_words(block, keys=False)
            grams, at = ngram_hashes(words, SEED_WORDS, short=False)
            rows = np.searchsorted(words.starts, at, side="right") - 1
            hashes.append(grams)
            queries.append(first + rows)
            places.append(at - words.starts[rows])
            sizes.append(np.diff(words.starts))
            plain.append(words.hashes)
        self.sizes: Rows = np.concatenate(sizes) if sizes else np.zeros(0, np.int64)  # [Q] words
        self._words = np.concatenate(plain) if plain else np.zeros(0, np.uint64)
        self._starts = np.cumsum(self.sizes) - self.sizes
        flat = np.concatenate(hashes) if hashes else np.zeros(0, np.uint64)
        order = np.argsort(flat, kind="stable")
        self._hashes = flat[order]
        self._queries = np.concatenate(queries)[order] if queries else np.zeros(0, np.int64)
        self._places = np.concatenate(places)[order] if places else np.zeros(0, np.int64)
        # Nearly no word of the text begins a trigram of a query: one bit tells most of them at once.
        self._known = np.zeros(1 << _FILTER_BITS, np.bool_)
        self._known[self._hashes >> np.uint64(64 - _FILTER_BITS)] = True

    @property
    def too_short(self) -> int:
        """How many of the texts have too few words to be looked for."""
        return int((self.sizes < self._settings.minimum_words).sum())

    def search(self, texts: Iterable[str], description: str, total: int | None = None) -> Found:
        """Look for all texts in others, which are streamed.

        A text is found where ``coverage`` of its words stand in place and in order and at least
        ``minimum_words`` of them, where all but one do, where ``ngram`` of them stand in a row, or where it
        is all that the other text says (from three words on).

        Args:
            texts: N texts to look in.
            description: of the progress bar.
            total: N, for the time left.

        Returns:
            Each pair once.
        """
        parts = []
        with Progress(description, total, "texts") as progress:
            for first, block in blocks(texts):
                _, words = keys_and_words(block, keys=False)
                found = self._leaking(self.find(words), np.diff(words.starts))
                parts.append(Found(found.queries, found.rows + first, found.shares))
                progress.update(len(block))
        if not parts:
            return Found(_NONE, _NONE, np.zeros(0))
        return Found(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _leaking(self, matches: Matches, words: Rows) -> Found:
        """The matches that are leaks, the greatest of each pair; the texts have so many words."""
        sizes = self.sizes[matches.queries]
        least = self._settings.minimum_words
        enough = matches.covered >= np.maximum(least, self._settings.coverage * sizes)
        enough |= (matches.covered >= sizes - 1) & (sizes >= least)
        enough |= (matches.covered >= sizes) & (words[matches.texts] == sizes)  # nothing but the query
        if self._ngram is not None:
            enough |= matches.longest >= self._ngram
        queries, rows = matches.queries[enough], matches.texts[enough]
        shares = np.minimum(1.0, matches.covered[enough] / sizes[enough])
        order = np.lexsort((-shares, queries, rows))
        queries, rows, shares = queries[order], rows[order], shares[order]
        fresh = np.ones(len(rows), np.bool_)
        fresh[1:] = (np.diff(rows) != 0) | (np.diff(queries) != 0)
        return Found(queries[fresh], rows[fresh], shares[fresh])

    def find(self, words: HashedWords) -> Matches:
        """Every stretch of some texts that shares trigrams with a query near one diagonal.

        Args:
            words: words of N texts.

        Returns:
            Matches, however small; ``texts`` are rows among the N.
        """
        grams, at = ngram_hashes(words, SEED_WORDS, short=False)
        (open_,) = np.nonzero(self._known[grams >> np.uint64(64 - _FILTER_BITS)])
        grams, at = grams[open_], at[open_]
        low = np.searchsorted(self._hashes, grams, side="left")
        counts = np.searchsorted(self._hashes, grams, side="right") - low
        (open_,) = np.nonzero(counts)
        rows = np.searchsorted(words.starts, at[open_], side="right") - 1
        parts = [
            self._gathered(words, at[part], rows[some], low[part], counts[part])
            for some, part in _parts(open_, rows, counts)
        ]
        if not parts:
            return Matches(_NONE, _NONE, _NONE, _NONE)
        return Matches(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _gathered(self, words: HashedWords, at: Rows, rows: Rows, low: Rows, counts: Rows) -> Matches:
        """Hits of some whole texts → one match for each query and stretch of diagonals."""
        ends = np.cumsum(counts)
        entries = np.arange(ends[-1]) + np.repeat(low - (ends - counts), counts)
        queries, places = self._queries[entries], self._places[entries]
        texts = np.repeat(rows, counts)
        diagonals = np.repeat(at, counts) - places
        order = np.lexsort((diagonals, queries, texts))
        texts, queries, places, diagonals = (one[order] for one in (texts, queries, places, diagonals))
        fresh = (np.diff(texts) != 0) | (np.diff(queries) != 0) | (np.diff(diagonals) > SLACK)
        stretches = np.concatenate(([0], np.cumsum(fresh)))
        begins = np.flatnonzero(np.concatenate(([True], fresh)))
        covered, longest = _measured(stretches, places)
        found = Matches(queries[begins], texts[begins], covered, longest)
        sizes = self.sizes[found.queries]
        (near,) = np.nonzero((covered < sizes) & (covered >= _PROMISING * sizes))
        if len(near):
            # The stretch's middle hit lies on the diagonal of most hits, where there is one.
            middle = diagonals[(begins + np.append(begins[1:], len(texts)) - 1) // 2]
            aligned = self._aligned(words, found.queries[near], found.texts[near], middle[near])
            covered[near] = np.maximum(covered[near], aligned)
        return found

    def _aligned(self, words: HashedWords, queries: Rows, texts: Rows, diagonals: Rows) -> Rows:
        """How many words of a query stand on a diagonal of a text, one word beside the other."""
        sizes = self.sizes[queries]
        ends = np.cumsum(sizes)
        places = np.arange(ends[-1]) - np.repeat(ends - sizes, sizes)
        there = np.repeat(diagonals, sizes) + places
        inside = there >= np.repeat(words.starts[texts], sizes)
        inside &= there < np.repeat(words.starts[texts + 1], sizes)
        there = np.clip(there, 0, len(words.hashes) - 1)
        same = words.hashes[there] == self._words[np.repeat(self._starts[queries], sizes) + places]
        return np.add.reduceat((inside & same).astype(np.int64), ends - sizes)


def _measured(stretches: Rows, places: Rows) -> tuple[Rows, Rows]:
    """Words of a query that the hits of each stretch cover, and the longest run of them."""
    order = np.lexsort((places, stretches))
    stretches, places = stretches[order], places[order]
    inside = np.diff(stretches) == 0
    steps = np.where(inside, np.diff(places), SEED_WORDS)
    gains = np.append(np.minimum(steps, SEED_WORDS), SEED_WORDS)
    begins = np.concatenate(([0], np.flatnonzero(~inside) + 1))
    covered = np.add.reduceat(gains, begins)
    # A run of hits on neighbouring places (a repeated place counts once) is a run of words.
    breaks = np.concatenate(([0], np.flatnonzero(~inside | (np.diff(places) > 1)) + 1))
    ends = np.append(breaks[1:], len(places)) - 1
    runs = places[ends] - places[breaks] + SEED_WORDS
    return covered, np.maximum.reduceat(runs, np.searchsorted(breaks, begins))


def _parts(open_: Rows, rows: Rows, counts: Rows) -> Iterator[tuple[slice, Rows]]:
    """Hits of whole texts, about a million entries at a time."""
    if not len(open_):
        return
    before = np.cumsum(counts[open_]) - counts[open_]
    first_of_text = np.searchsorted(rows, rows)
    parts = before[first_of_text] // _HITS_AT_ONCE
    cuts = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(open_)]
    for start, end in pairwise(cuts):
        yield slice(start, end), open_[start:end]
