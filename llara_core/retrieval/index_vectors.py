"""The vectors of an index: in shards on disk, taken from the old state where a text is known there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from llara_core.progress import Progress
from llara_core.retrieval.exact import search, top_k
from llara_core.retrieval.exact_prepared import Prepared
from llara_core.retrieval.index_files import read_array
from llara_core.retrieval.vector_rows import find_rows, first_rows
from llara_core.retrieval.vector_store import Dtype
from llara_core.retrieval.vectors import Encoder, stored_vectors

_BLOCK = 16_384  # rows copied at a time


class Shards:
    """Vectors [N, D] that lie in several memory-mapped arrays.

    Args:
        parts: arrays [n, D] that follow each other.
    """

    def __init__(self, parts: Sequence[NDArray[Any]]) -> None:
        self.parts = list(parts)
        self.firsts = np.cumsum([0, *(len(part) for part in self.parts)])
        self._searched: list[NDArray[Any] | Prepared] = list(self.parts)

    def __len__(self) -> int:
        """Number of vectors, N."""
        return int(self.firsts[-1])

    def prepare(self) -> int:
        """Make the vectors ready for many searches; returns the bytes of memory that this takes."""
        ready = [part if isinstance(part, Prepared) else Prepared(part) for part in self._searched]
        self._searched = list(ready)  # in one step: other threads may be searching
        return sum(part.nbytes for part in ready)

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The vectors [M, D] of some rows [M]."""
        out = np.empty((len(rows), self.parts[0].shape[1]), self.parts[0].dtype)
        shard = np.searchsorted(self.firsts, rows, side="right") - 1
        for number in np.unique(shard):
            here = shard == number
            out[here] = self.parts[number][rows[here] - self.firsts[number]]
        return out

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Exact search of one shard after the other: the answer of ``exact.search`` on all of them."""
        scores, rows = [], []
        for part, first in zip(self._searched, self.firsts, strict=False):
            some, found = search(queries, part, k)
            scores.append(some)
            rows.append(found + first)
        # Shards follow each other and each list has its ties by row, so ties by column are ties by row.
        best, columns = top_k(np.concatenate(scores, axis=1), k)
        return best, np.take_along_axis(np.concatenate(rows, axis=1), columns, axis=1)


def open_shards(state: Path, dimension: int, dtype: str) -> Shards:
    """The vectors of a state, memory-mapped."""
    parts = [read_array(path) for path in sorted(state.glob("vectors-*.npy"))]
    return Shards(parts or [np.zeros((0, dimension), dtype)])


def write_vectors(  # noqa: PLR0913, PLR0917 - what a state is made of
    state: Path,
    encoder: Encoder,
    passages: Sequence[str],
    hashes: NDArray[np.uint8],
    old: tuple[NDArray[np.uint8], Shards] | None,
    shards: int,
    dtype: Dtype,
    cache: Path,
) -> tuple[Shards, int]:
    """Write the vectors of a corpus; only texts that the old state does not know are encoded, each once.

    Args:
        state: folder of the new state.
        encoder: the model.
        passages: N texts.
        hashes: uint8 [N, 16], theirs.
        old: hashes and vectors of the old state, of the same model and dtype.
        shards: number of files.
        dtype: of the numbers on disk.
        cache: folder for what is encoded, so that a killed run is gone on with.

    Returns:
        The vectors, memory-mapped, and how many texts were encoded.
    """
    known = find_rows(hashes, old[0]) if old is not None else np.full(len(hashes), -1, np.int64)
    first = first_rows(hashes)
    missing = np.flatnonzero((known < 0) & (first == np.arange(len(hashes))))
    found = stored_vectors(encoder, Some(passages, missing), cache, dtype=dtype)
    bounds = np.linspace(0, len(hashes), shards + 1).astype(np.int64)
    with Progress("write vectors", total=len(hashes), unit="passages") as bar:
        for number in range(shards):
            begin, end = int(bounds[number]), int(bounds[number + 1])
            if begin == end:
                continue  # an array without a row cannot be mapped into memory
            shape = (end - begin, encoder.dimension)
            target = np.lib.format.open_memmap(
                state / f"vectors-{number:05d}.npy", "w+", np.dtype(dtype), shape
            )
            for start in range(begin, end, _BLOCK):
                rows = np.arange(start, min(start + _BLOCK, end))
                block = np.empty((len(rows), encoder.dimension), dtype)
                kept = known[rows] >= 0
                if old is not None:
                    block[kept] = old[1].take(known[rows][kept])
                block[~kept] = found.vectors[np.searchsorted(missing, first[rows][~kept])]
                target[rows - begin] = block
                bar.update(len(rows))
            target.flush()
    return open_shards(state, encoder.dimension, dtype), len(missing)


class Some(Sequence[str]):
    """Some rows of a sequence of texts, read when they are asked for.

    Args:
        texts: all of them.
        rows: the rows of interest, in order.
    """

    def __init__(self, texts: Sequence[str], rows: NDArray[np.int64]) -> None:
        self._texts, self._rows = texts, rows

    def __len__(self) -> int:
        """Number of chosen rows."""
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        """One text, or a list of some."""
        if isinstance(place, slice):
            rows = self._rows[place]
            if len(rows) and rows[-1] - rows[0] + 1 == len(rows):  # neighbours come cheaper than one by one
                return list(self._texts[int(rows[0]) : int(rows[-1]) + 1])
            return [self._texts[int(row)] for row in rows]
        return self._texts[int(self._rows[place])]
