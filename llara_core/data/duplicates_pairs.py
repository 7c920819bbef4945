"""Exact comparison of candidate pairs, and clusters of what is alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
_AT_ONCE = 1 << 21  # n-grams looked up at once; about 100 bytes of scratch memory each
_REMEMBERED = 1 << 24  # pairs known to be unlike, 8 bytes each; beyond it some are compared again


@dataclass(frozen=True)
class Ngrams:
    """The sets of n-grams of C texts in one sorted array, so that a lookup is a binary search.

    Args:
        values: [S] the text's number in the upper bits, as much of the n-gram's hash as fits below; sorted.
        starts: [C + 1] where each text's set starts.
        low_bits: bits of the hash; 44 for a million texts. Two n-grams of a pair are confused with a
            probability of 1 in 10^9 or less.
    """

    values: NDArray[np.uint64]
    starts: Rows
    low_bits: int

    @classmethod
    def of(cls, hashes: Sequence[NDArray[np.uint64]], sizes: Sequence[Rows]) -> Ngrams:
        """Make sets of the n-grams of texts that come block by block.

        Args:
            hashes: n-grams of a block, text after text, as 64-bit hashes.
            sizes: how many of them each text of a block has.
        """
        counts = np.concatenate(sizes) if sizes else np.zeros(0, np.int64)
        low_bits = 64 - max(1, len(counts).bit_length())
        values = np.concatenate(hashes) if hashes else np.zeros(0, np.uint64)
        values >>= np.uint64(64 - low_bits)
        values |= np.repeat(np.arange(len(counts), dtype=np.uint64) << np.uint64(low_bits), counts)
        values.sort()
        if len(values):
            values = values[np.concatenate(([True], values[1:] != values[:-1]))]
        firsts = np.arange(len(counts) + 1, dtype=np.uint64) << np.uint64(low_bits)
        return cls(values, np.searchsorted(values, firsts), low_bits)

    @property
    def sizes(self) -> Rows:
        """How many different n-grams each text has, [C]."""
        return np.diff(self.starts)

    def alike(self, first: Rows, second: Rows, threshold: float) -> NDArray[np.bool_]:
        """Whether the Jaccard similarity of pairs of texts reaches the threshold, [P].

        Args:
            first: [P] numbers of texts.
            second: [P] numbers of the texts that they are compared with.
            threshold: least similarity.
        """
        sizes = self.sizes
        smaller = np.where(sizes[first] <= sizes[second], first, second)
        larger = first + second - smaller
        result = np.zeros(len(first), np.bool_)
        # |a ∩ b| / |a or b| is at most min / max of the sizes: most pairs end here.
        (open_,) = np.nonzero(sizes[smaller] >= threshold * sizes[larger])
        open_ = open_[np.lexsort((smaller[open_], larger[open_]))]  # neighbouring lookups hit the cache
        for part in _parts(open_, sizes[smaller[open_]]):
            shared = self._shared(smaller[part], larger[part])
            union = sizes[smaller[part]] + sizes[larger[part]] - shared
            result[part] = shared >= threshold * union
        return result

    def _shared(self, smaller: Rows, larger: Rows) -> Rows:
        sizes = self.sizes[smaller]
        ends = np.cumsum(sizes)
        places = np.arange(ends[-1]) + np.repeat(self.starts[smaller] - (ends - sizes), sizes)
        low = self.values[places] & np.uint64((1 << self.low_bits) - 1)
        asked = low | (np.repeat(larger, sizes).astype(np.uint64) << np.uint64(self.low_bits))
        found = np.minimum(np.searchsorted(self.values, asked), len(self.values) - 1)
        return np.add.reduceat((self.values[found] == asked).astype(np.int64), ends - sizes)


@dataclass(frozen=True)
class Joined:
    """What ``join_alike`` found.

    Args:
        labels: [C] the lowest number in each text's cluster.
        compared: pairs compared exactly.
        alike: pairs among them that reach the threshold.
        left_out: pairs of very large groups that were not compared.
    """

    labels: Rows
    compared: int
    alike: int
    left_out: int


def join_alike(bands: Sequence[tuple[Rows, Rows]], ngrams: Ngrams, threshold: float, leaders: int) -> Joined:
    """Compare the texts that share a band, and join those that are alike to clusters.

    Pairs that are in one cluster already are not compared: it would change nothing. In a group each text
    in turn is compared with all after it; a group whose texts are not one cluster after ``leaders`` turns
    (boilerplate that fills a band) is left, and its open pairs are counted.

    Args:
        bands: for each band the numbers of texts that share a value, group after group in ascending
            order; and the sizes of the groups.
        ngrams: the sets of all C texts.
        threshold: least Jaccard similarity.
        leaders: turns of a group.
    """
    labels = np.arange(len(ngrams.sizes), dtype=np.int64)
    unlike = np.zeros(0, np.uint64)
    compared = alike = left_out = 0
    for band in bands:
        members, sizes = band
        fresh = [unlike]
        turn = 0
        while len(members) and turn < leaders:
            first, second = _turn(members, sizes, turn)
            different = labels[first] != labels[second]
            first, second = first[different], second[different]
            pairs = (first.astype(np.uint64) << np.uint64(32)) | second.astype(np.uint64)
            new = ~_among(pairs, unlike)
            first, second, pairs = first[new], second[new], pairs[new]
            same = ngrams.alike(first, second, threshold)
            compared, alike = compared + len(same), alike + int(same.sum())
            fresh.append(pairs[~same])
            labels = _united(labels, first[same], second[same])
            turn += 1
            members, sizes = _unfinished(members, sizes, labels, turn)
        left = sizes - turn
        left_out += int((left * (left - 1) // 2).sum())
        if sum(map(len, fresh)) <= _REMEMBERED:
            unlike = np.unique(np.concatenate(fresh))
    return Joined(labels, compared, alike, left_out)


def _turn(members: Rows, sizes: Rows, turn: int) -> tuple[Rows, Rows]:
    """Pairs of each group's text number ``turn`` with all texts after it."""
    starts = np.cumsum(sizes) - sizes
    after = np.arange(len(members)) - np.repeat(starts, sizes) > turn
    return np.repeat(members[starts + turn], sizes - turn - 1), members[after]


def _unfinished(members: Rows, sizes: Rows, labels: Rows, turn: int) -> tuple[Rows, Rows]:
    """The groups that have texts of several clusters and at least two texts left."""
    starts = np.cumsum(sizes) - sizes
    marks = labels[members]
    several = np.minimum.reduceat(marks, starts) != np.maximum.reduceat(marks, starts)
    several &= sizes - turn > 1
    return members[np.repeat(several, sizes)], sizes[several]


def _among(values: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which values stand in a sorted array."""
    if not len(known):
        return np.zeros(len(values), np.bool_)
    places = np.minimum(np.searchsorted(known, values), len(known) - 1)
    found: NDArray[np.bool_] = known[places] == values
    return found


def _united(labels: Rows, first: Rows, second: Rows) -> Rows:
    """Union-find over arrays: a higher cluster joins the lowest that it meets, until no pair is apart.

    Source: Shiloach & Vishkin (1982): hooking and pointer jumping.
    """
    while True:
        apart = labels[first] != labels[second]
        if not apart.any():
            return labels
        first, second = first[apart], second[apart]
        ones, others = labels[first], labels[second]
        parents = labels.copy()
        np.minimum.at(parents, np.maximum(ones, others), np.minimum(ones, others))
        while True:
            jumped = parents[parents]
            if (jumped == parents).all():
                break
            parents = jumped
        labels = parents


def _parts(rows: Rows, sizes: Rows) -> Iterator[Rows]:
    """The rows in order, so many at a time that their sizes add up to about ``_AT_ONCE``."""
    if not len(rows):
        return
    parts = np.cumsum(sizes) // _AT_ONCE
    yield from np.split(rows, np.flatnonzero(np.diff(parts)) + 1)
