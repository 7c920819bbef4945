"""Which ids, texts and judgements were seen before: numbers in arrays, not strings in a set.

Five million ids as a set of Python strings take half a gigabyte, here a quarter of it with the content's
hash and the row beside each, and a batch is looked up at once. A key is 128 bits of SipHash: that two
different ids among a hundred million share one has a probability of 1e-23. Python salts its hashes by
process, so nobody can plan such a pair; nothing but these tables depends on them. Issue 5, point 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_SALT = "\x00"
_AT_ONCE = 1 << 16  # rows that stand as Python strings
_FULLEST = 0.7  # share of the slots in use before the table doubles


@dataclass(frozen=True)
class Keys:
    """Hashes of N strings or tuples: two independent 64-bit arrays ``[N]``."""

    first: NDArray[np.uint64]
    second: NDArray[np.uint64]

    @classmethod
    def of(cls, ids: Sequence[str]) -> Keys:
        """Of strings."""
        return cls(hashes(ids), hashes([_SALT + one for one in ids]))

    def joined(self, other: Keys) -> Keys:
        """Of the pairs (one of these, one of the others), row by row."""
        return Keys(_mixed(self.first, other.first), _mixed(self.second, other.second))

    def where(self, rows: NDArray[np.bool_]) -> Keys:
        """Of some rows alone."""
        return Keys(self.first[rows], self.second[rows])


def earlier_rows(*columns: pa.ChunkedArray) -> NDArray[np.int64]:
    """For each of N rows the first row with the same strings in all columns, -1 where it is itself: ``[N]``.

    Args:
        columns: of N strings each, without nulls.
    """
    total = len(columns[0])
    seen = SeenKeys()
    result = np.empty(total, np.int64)
    for start in range(0, total, _AT_ONCE):
        keys = [Keys.of(column.slice(start, _AT_ONCE).to_pylist()) for column in columns]
        joined = reduce(Keys.joined, keys)
        places = np.arange(start, start + len(joined.first))
        result[start : start + _AT_ONCE], _ = seen.add(joined, joined.first, places)
    return result


def hashes(values: Iterable[object], count: int | None = None) -> NDArray[np.uint64]:
    """Python's hashes of values, as 64-bit numbers ``[N]``; the same within one process only."""
    return np.fromiter(map(hash, values), np.int64, -1 if count is None else count).view(np.uint64)


class SeenKeys:
    """An open-addressing hash table over arrays: key → content and place of who came first.

    Memory: 32 bytes a slot, of which at least 35% are in use once it has grown; while it doubles, old and
    new stand side by side.

    Args:
        capacity: slots to begin with, a power of two.
        slim: keep 64 bits of each key and no content, 16 bytes a slot: for what is only remarked upon.
            Contents must then be the keys' first halves.
    """

    def __init__(self, capacity: int = 1 << 12, *, slim: bool = False) -> None:
        self._slim = slim
        self._allocate(capacity)
        self._used = 0

    def __len__(self) -> int:
        """How many different keys were added."""
        return self._used

    def add(
        self, keys: Keys, contents: NDArray[np.uint64], places: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Add N keys in order; a key that is there already keeps its first content and place.

        Args:
            keys: of N rows.
            contents: hash of what belongs to each key, ``[N]``.
            places: where each stands, ``[N]``; from 0 on, each different.

        Returns:
            ``earlier`` ``[N]``: the place of who had the key first, -1 for the first itself; and ``same``
            boolean ``[N]``: whether the content is that of the first.
        """
        while self._used + len(keys.first) > _FULLEST * len(self._first):
            self._grow()
        missing = np.flatnonzero(self._slots(keys)[1])
        if missing.size:
            self._insert(keys, contents, places, missing)
        slots, absent = self._slots(keys)
        if absent.any():
            raise RuntimeError("keys were lost from a hash table; this is a bug of ours")
        earlier = np.where(self._place[slots] == places, -1, self._place[slots])
        return earlier, self._content[slots] == contents

    def places(self, keys: Keys) -> NDArray[np.int64]:
        """Where each of N keys was seen first, ``[N]``; -1: never."""
        slots, absent = self._slots(keys)
        return np.where(absent, -1, self._place[slots])

    def _allocate(self, capacity: int) -> None:
        self._first = np.zeros(capacity, np.uint64)
        # A slim table has one array under three names.
        self._second = self._first if self._slim else np.zeros(capacity, np.uint64)
        self._content = self._first if self._slim else np.zeros(capacity, np.uint64)
        self._place = np.full(capacity, -1, np.int64)  # -1: a free slot

    def _slots(self, keys: Keys) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Each key's slot, or the free one at which its search ended, and whether it is free."""
        mask = np.uint64(len(self._first) - 1)
        slots = (keys.first & mask).astype(np.intp)
        open_ones = np.arange(len(slots))
        while open_ones.size:
            at = slots[open_ones]
            other = (
                (self._first[at] != keys.first[open_ones]) | (self._second[at] != keys.second[open_ones])
            ) & (self._place[at] >= 0)
            open_ones = open_ones[other]
            slots[open_ones] = (slots[open_ones] + 1) & int(mask)
        return slots, self._place[slots] < 0

    def _insert(
        self,
        keys: Keys,
        contents: NDArray[np.uint64],
        places: NDArray[np.int64],
        rows: NDArray[np.intp],
    ) -> None:
        while rows.size:
            some = Keys(keys.first[rows], keys.second[rows])
            slots, absent = self._slots(some)
            rows, slots = rows[absent], slots[absent]
            # Of rows that end at one slot the first gets it; the others, same key or not, look again.
            taken, chosen = np.unique(slots, return_index=True)
            winners = rows[chosen]
            self._first[taken], self._second[taken] = keys.first[winners], keys.second[winners]
            self._content[taken], self._place[taken] = contents[winners], places[winners]
            self._used += len(winners)
            rows = np.delete(rows, chosen)

    def _grow(self) -> None:
        rows = np.flatnonzero(self._place >= 0)
        keys = Keys(self._first[rows], self._second[rows])
        contents, places = self._content[rows], self._place[rows]
        self._allocate(2 * len(self._first))
        self._used = 0
        for start in range(0, len(rows), 1 << 16):  # in pieces: the work arrays stay small
            piece = slice(start, start + (1 << 16))
            some = Keys(keys.first[piece], keys.second[piece])
            self._insert(some, contents[piece], places[piece], np.arange(len(some.first)))


def _mixed(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # Multiplied by an odd constant (of SplitMix64), so that (a, b) and (b, a) differ; overflow is wanted.
    product: NDArray[np.uint64] = (left * np.uint64(0x9E3779B97F4A7C15)) ^ (right + (left >> np.uint64(31)))
    return product * np.uint64(0xBF58476D1CE4E5B9)
