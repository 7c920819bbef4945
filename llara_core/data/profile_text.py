"""Lengths and words of texts, counted in Arrow and numpy, a slice at a time."""

from __future__ import annotations

import zlib
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llara_core.data.profile_sketch import binary_buffers, pack

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
BUCKETS = 1 << 14  # of the words' count vector
TOP_WORDS = 200
WORD_CHARACTERS = 64  # a longer run of letters is no word that a page should show
CUT = 10_000  # characters of a document whose words are counted

_EXACT = 1 << 16  # lengths counted one by one; longer ones are kept as they are
_BINS = 50  # of a histogram, at most
_KEPT_WORDS = 1_000_000  # distinct words counted at once; beyond it, those seen once are forgotten
# Runs of letters, digits and "_" are words, as in `retrieval.words`; bytes of other scripts count as letters.
_WORD_BYTE = np.array([byte >= 0x80 or chr(byte).isalnum() or chr(byte) == "_" for byte in range(256)])
# First bytes of U+3000 to U+9FFF (kana, Chinese characters): written without spaces, each counts as a word.
_EAST_ASIAN_BYTE = np.array([0xE3 <= byte <= 0xE9 for byte in range(256)])


def characters(column: pa.Array) -> NDArray[np.int64]:
    """Length of every text in characters (Unicode code points), int64 [N]; null has none."""
    return np.asarray(pc.fill_null(pc.utf8_length(column), 0)).astype(np.int64)


def words(column: pa.Array) -> NDArray[np.int64]:
    """Number of words of every text, int64 [N].

    A word is a run of letters, digits and ``_``; characters of scripts without spaces (kana, Chinese)
    count one each. Punctuation outside ASCII counts as a letter, which joins the words it stands between.
    """
    offsets, data = binary_buffers(pc.fill_null(column.cast(pa.large_binary()), b""))
    low, high = int(offsets[0]), int(offsets[-1])
    if low == high:
        return np.zeros(len(column), np.int64)
    data = data[low:high]
    letters, eastern = _WORD_BYTE[data], _EAST_ASIAN_BYTE[data]
    begins = np.zeros(len(data) + 1, np.bool_)
    np.greater(letters[1:], letters[:-1], out=begins[1:-1])
    begins[0] = letters[0]
    edges = offsets - low
    inside = edges[:-1][edges[:-1] < edges[1:]]  # of texts that have any byte
    begins[inside] = letters[inside]  # a text begins anew, whatever ended the one before
    begins[:-1] |= eastern
    total = np.concatenate([[0], np.cumsum(begins[:-1])])
    counts: NDArray[np.int64] = total[edges[1:]] - total[edges[:-1]]
    return counts


class Lengths:
    """Exact distribution of lengths in flat memory: a counter for each length up to 65,535."""

    def __init__(self) -> None:
        self._counts = np.zeros(_EXACT, np.int64)
        self._long: list[NDArray[np.int64]] = []

    def add(self, lengths: NDArray[np.int64]) -> None:
        """Count lengths, int64 [N]."""
        short = lengths < _EXACT
        self._counts += np.bincount(lengths[short], minlength=_EXACT)
        if not short.all():
            self._long.append(lengths[~short])

    def to_dict(self) -> dict[str, Any]:
        """``mean``, ``least``, ``most``, ``total``, ``quantiles`` and ``histogram``; zeros without texts."""
        long, repeats = np.unique(np.concatenate([*self._long, np.zeros(0, np.int64)]), return_counts=True)
        short = np.flatnonzero(self._counts)
        values = np.concatenate([short, long])
        counts = np.concatenate([self._counts[short], repeats])
        rows, total = int(counts.sum()), int((values * counts).sum())
        if not rows:
            values = counts = np.zeros(1, np.int64)
        upto = np.cumsum(counts)
        # The smallest length that at least this share of the texts does not exceed.
        places = [min(int(np.searchsorted(upto, part * rows)), len(values) - 1) for part in QUANTILES]
        return {
            "mean": total / rows if rows else 0.0,
            "least": int(values[0]),
            "most": int(values[-1]),
            "total": total,
            "quantiles": {
                f"{part:g}": int(values[place]) for part, place in zip(QUANTILES, places, strict=True)
            },
            "histogram": _histogram(values, counts, int(values[places[-1]])),
        }


def _histogram(values: NDArray[np.int64], counts: NDArray[np.int64], upto: int) -> dict[str, Any]:
    """Bins of one round width from 0 to the 99th percentile: the few longest would squeeze the rest."""
    width = next(
        step * 10**power
        for power in range(19)
        for step in (1, 2, 5)
        if (upto + 1) <= _BINS * step * 10**power
    )
    bins = upto // width + 1
    inside = values < bins * width
    found = np.bincount(values[inside] // width, weights=counts[inside], minlength=bins)
    return {
        "edges": [width * place for place in range(bins + 1)],
        "counts": found.astype(np.int64).tolist(),
        "beyond": int(counts[~inside].sum()),
    }


class Vocabulary:
    """Words of a sample: the most frequent by name, all of them in a vector of counts by hash.

    The vector [16384] is what two versions are compared by: words that share a place hide little of a
    difference between distributions, and it stays small whatever the vocabulary.
    """

    def __init__(self) -> None:
        self._buckets = np.zeros(BUCKETS, np.int64)
        self._seen: Counter[str] = Counter()
        self.documents = 0

    def add(self, texts: pa.Array) -> None:
        """Count the lower-cased words of texts [N]; of each its first 10,000 characters."""
        lowered = pc.utf8_lower(pc.utf8_slice_codeunits(pc.fill_null(texts, ""), 0, CUT))
        parts = pc.list_flatten(pc.split_pattern_regex(lowered, r"[^\p{L}\p{N}\p{M}_]+"))
        found = pc.value_counts(parts)
        names, counts = found.field("values").to_pylist(), found.field("counts").to_pylist()
        self.documents += len(texts)
        for name, count in zip(names, counts, strict=True):
            if name:
                self._buckets[zlib.crc32(name.encode()) % BUCKETS] += count
                self._seen[name] += count
        if len(self._seen) > _KEPT_WORDS:
            self._seen = Counter({name: count for name, count in self._seen.items() if count > 1})

    def to_dict(self) -> dict[str, Any]:
        """``documents``, ``words``, ``top`` [[word, count] …] and ``buckets``, packed uint32 [16384]."""
        ordered = sorted(self._seen.items(), key=lambda one: (-one[1], one[0]))
        short = [[name, count] for name, count in ordered if len(name) <= WORD_CHARACTERS]
        return {
            "documents": self.documents,
            "words": int(self._buckets.sum()),
            "top": short[:TOP_WORDS],
            "buckets": pack(self._buckets.astype(np.uint32)),
        }
