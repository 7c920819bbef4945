"""The first pass of exact search in bfloat16, where the processor multiplies it natively, by torch.

Names of axes: Q queries, N documents, B documents of one block, D dimensions, W places of the pool.

Such products take half the time of float32's. They are far coarser, but how coarse is known: with q', c'
the rounded vectors, |q·c - q'·c'| <= |q - q'| |c| + |q'| |c - c'| (Cauchy and Schwarz), and the lengths of
the differences are measured; with few queries, where looking at each document costs most, those of
documents are bounded by the greatest error of a rounding instead. What they leave open is settled in
float64. Vectors that all look alike leave too much of it: that is noticed at the first block, and the
search starts anew in float32.
"""

from __future__ import annotations

import sys
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.retrieval.exact_scan import QUERY_BLOCK, Hits, Pool, lengths, norms, true_places

BLOCK = 4096  # documents of one matrix product: with 1,024 queries 8 MiB of products
FEW_BLOCK = 16384  # the same for few queries
PIECE = 4096  # documents rounded at once: they stay in a core's cache
# Queries from which rounding errors are measured, and not only bounded: it costs two more looks at each
# document, and leaves fewer candidates of each query.
MEASURED_FROM = 512
PLACES_PER_RESULT = 3  # of the pool: more candidates than that are not worth settling
_CROWDED_FIRST, _CROWDED = 2.0, 5.0  # hits per result: of the first block, and of every e-fold of documents
_OVERFLOWED = 1 / 8  # of the queries: beyond it the whole search starts anew
# Below these, rounding, checking and settling take as long as float32 products would (``worthwhile``).
_LEAST_QUERIES, _LEAST_DIMENSION = 64, 192
_LEAST_PRODUCTS, _LEAST_FEW_PRODUCTS = 1 << 25, 1 << 22  # the second for few queries
_LEAST_PER_RESULT = 256  # documents per result; below it most time goes into candidates
_UNIT = 2.0**-24  # rounding of one float32 operation
_OUTPUT = 2.0**-7  # a product is rounded to eight bits, up or down
_HALF_STEP = 2.0**-8  # of a rounded number: the greatest relative error of eight significant bits
_SMALLEST = 2.0**-126  # numbers below it may be flushed to zero


def worthwhile(queries: tuple[int, int], documents: int, k: int) -> bool:
    """Whether this pass is likely to be the fastest way; the sizes were found by measuring.

    Args:
        queries: Q and D.
        documents: N.
        k: results per query.
    """
    count, dimension = queries
    least = _LEAST_PRODUCTS if count >= MEASURED_FROM else _LEAST_FEW_PRODUCTS
    large = count >= _LEAST_QUERIES and dimension >= _LEAST_DIMENSION and count * documents >= least
    return large and documents >= _LEAST_PER_RESULT * k and native()


def native() -> bool:
    """Whether torch is loaded and this processor multiplies bfloat16 itself (AVX512-BF16 or AMX)."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.backends.mkldnn.is_available():
        return False
    # Private names of torch; where they are missing, float32 serves as well.
    asked = (
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return any(ask is not None and ask() for ask in asked)


class BfloatPool(Pool):
    """Candidates by their bfloat16 products.

    Args:
        queries: [Q, D] float32, finite.
        k: results per query.
        width: W, candidates that a query may hold, more than k.
    """

    def __init__(self, queries: NDArray[np.float32], k: int, width: int) -> None:
        import torch

        super().__init__(queries, k, width)
        dimension = queries.shape[1]
        self.rounded = torch.tensor(queries).to(torch.bfloat16)
        whole = norms(queries).astype(np.float64)
        off = norms(self.rounded.float().numpy() - queries).astype(np.float64) + dimension**0.5 * _SMALLEST
        # 2D operations of a sum, with two to spare; four units more as for float32 products.
        self._by_length = off + (2 * dimension + 2 + 4) * _UNIT * whole
        self._by_rounding = whole + off
        self.seen = self.first = 0
        self.hopeless = False  # a scanner saw it at its first block

    def floor(
        self,
        kth: NDArray[np.float32],
        longest: float,
        queries: slice | NDArray[np.int64],
        rounding: float = 0.0,
    ) -> NDArray[np.float32]:
        """As ``Pool.floor``; kth are bfloat16 products, and so is what is compared with the floor."""
        error = self._by_length[queries] * max(self.longest, longest)
        error += self._by_rounding[queries] * max(self.rounding, rounding) + self._flushed
        known = np.isfinite(kth)  # not before the first block, nor where nothing more is to be found
        sure = np.where(known, kth, 0).astype(np.float64)
        return np.where(known, sure - _OUTPUT * np.abs(sure) - 2 * error, kth).astype(np.float32)

    def add(self, hits: Hits) -> None:
        """As ``Pool.add``."""
        counts = np.bincount(hits.query, minlength=len(self.held))
        self.seen += int(np.minimum(counts, self.width).sum())  # a few queries do not crowd the pool
        super().add(hits)

    def too_many(self, above: NDArray[np.bool_]) -> bool:
        """Whether the first block [Q, B] leaves so much open that the search is better given up."""
        counts = np.minimum(np.count_nonzero(above, axis=1), self.width)  # a few queries may be crowded
        many = counts.sum() > _CROWDED_FIRST * self.k * len(above) and above.shape[1] > self.width
        self.hopeless = self.hopeless or bool(many)
        return self.hopeless

    def crowded(self, documents: int) -> bool:
        """Whether, after this many documents, so many stay candidates that float32 is the faster way."""
        self.first = self.first or documents
        wanted = self.k * len(self.held)
        allowed = _CROWDED * (1 + log(documents / self.first)) * wanted
        return bool(self.hopeless or self.seen > allowed or self.overflowed.mean() > _OVERFLOWED)


class BfloatScanner:
    """As ``Scanner``, with bfloat16 products.

    Args:
        queries: [Q, D] float32.
        corpus: [N, D] float32 or float16, perhaps memory-mapped.
        pool: read for its floors; hits are not added to it.
    """

    def __init__(self, queries: NDArray[np.float32], corpus: NDArray[Any], pool: BfloatPool) -> None:
        import torch

        self._count, self._corpus, self._pool, self._torch = len(queries), corpus, pool, torch
        self._measured = len(queries) >= MEASURED_FROM
        self._room, self._flushed = 0, flushed(corpus.shape[1])
        self._view: Any = None
        self._rounded: Any = None
        # torch warns of read-only memory, as of a mapped file; that is copied block by block.
        if corpus.dtype == np.float32 and corpus.flags.writeable and not self._measured:
            self._view = torch.from_numpy(corpus)

    def __call__(self, start: int, end: int) -> Hits:
        """The hits among the documents from start to end.

        Raises:
            InputError: a vector holds NaN or infinity, or is longer than LONGEST.
        """
        documents, length, rounding = self._documents(start, end)
        self._make_room(end - start)
        parts = [
            self._scan(slice(first, min(first + QUERY_BLOCK, self._count)), documents, length, rounding)
            for first in range(0, self._count, QUERY_BLOCK)
        ]
        query, row, score = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Hits(query, row + start, score, length, rounding)

    def _documents(self, start: int, end: int) -> tuple[Any, float, float]:
        """Documents [B, D] in bfloat16, and what ``_round`` returns of all of them."""
        self._make_buffers(end - start)
        pieces = [(first, min(first + PIECE, end)) for first in range(start, end, PIECE)]
        found = [self._round(first, last, first - start) for first, last in pieces]
        length, rounding = (max(one) for one in zip(*found, strict=True))
        return self._rounded[: end - start], length, rounding

    def _round(self, start: int, end: int, place: int) -> tuple[float, float]:
        """Round documents to bfloat16, into the block from this place on.

        Returns:
            The greatest length of a vector, and that of its difference to the rounded one, or more.
        """
        size = end - start
        rounded = self._rounded[place : place + size]
        if self._view is not None:
            length = float(lengths(self._corpus[start:end], "document").max())
            rounded.copy_(self._view[start:end])
            return length, _HALF_STEP * length + self._flushed
        block = self._block[:size]
        np.copyto(block.numpy(), self._corpus[start:end])
        length = float(lengths(block.numpy(), "document").max())
        rounded.copy_(block)
        if not self._measured:
            return length, _HALF_STEP * length + self._flushed
        off = self._off[:size]
        off.copy_(rounded).sub_(block)
        return length, float(norms(off.numpy()).max()) + self._flushed

    def _scan(
        self, queries: slice, documents: Any, length: float, rounding: float
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        pool, some = self._pool, self._pool.rounded[queries]
        size, count = len(documents), len(some)
        out = self._products[: size * count].view(count, size)
        self._torch.mm(some, documents.T, out=out)
        bits = out.view(self._torch.int16).numpy()
        kth, first = pool.kth[queries].copy(), False
        if size > pool.k and np.isneginf(kth).all():  # the first block: sorted to find a floor
            kth = _kth(bits, pool.k)
            pool.learn(kth, queries, length, rounding)
            first = True
        above = self._above[: size * count].reshape(count, size)
        shift = _mark(bits, pool.floor(kth, length, queries, rounding), above)
        if first and pool.too_many(above):
            above[:] = False  # the search is given up; taking these hits in would be most of its cost
        found = true_places(above.reshape(-1))
        ends = np.searchsorted(found, np.arange(1, count + 1) * size)
        query = np.repeat(np.arange(count), np.diff(ends, prepend=0))
        kept = bits.reshape(-1)[found].view(np.uint16) + shift[query]
        return query + queries.start, found - query * size, _floats(kept)

    def _make_room(self, size: int) -> None:
        if size <= self._room:
            return
        count, self._room = size * min(self._count, QUERY_BLOCK), size
        self._products = self._torch.empty(count, dtype=self._torch.bfloat16)
        self._above = np.empty(count, bool)

    def _make_buffers(self, size: int) -> None:
        if self._rounded is not None and size <= len(self._rounded):
            return
        torch, dimension = self._torch, self._corpus.shape[1]
        self._rounded = torch.empty((size, dimension), dtype=torch.bfloat16)
        if self._view is None:
            self._block = torch.empty((PIECE, dimension))
        if self._measured:
            self._off = torch.empty((PIECE, dimension))


def flushed(dimension: int) -> float:
    """Most that is lost of a vector's length where numbers too small for bfloat16 become zero."""
    return float(dimension**0.5 * _SMALLEST)


def _mark(
    bits: NDArray[np.int16], floors: NDArray[np.float32], above: NDArray[np.bool_]
) -> NDArray[np.uint16]:
    """Mark the bfloat16 numbers [Q, B], given as their bits, that are no less than the floors [Q].

    torch compares bfloat16 slowly. As integers, numbers from 0 on are ordered as they should be, and those
    below 0 the other way round, after all others if the sign is taken for the highest bit of the number.

    Returns:
        What has been subtracted from the bits of each row.
    """
    low = _bits_below(floors)
    negative = low >= 0x8000
    shift = np.where(negative, 0, low).astype(np.uint16)
    if not negative.any():
        np.greater_equal(bits, low.view(np.int16)[:, None], out=above)
        return np.zeros_like(shift)
    # From the floor upwards: one stretch of unsigned integers, moved to begin at 0.
    last = np.where(negative, low, 0x7FFF - shift).astype(np.uint16)
    unsigned = bits.view(np.uint16)
    np.subtract(unsigned, shift[:, None], out=unsigned)
    np.less_equal(unsigned, last[:, None], out=above)
    return shift


def _bits_below(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Bits of the greatest bfloat16 numbers not above the values; zero is given as -0."""
    bits = (np.asarray(values, np.float32) + np.float32(0)).view(np.uint32)
    cut = np.where(bits >> 31, (bits + np.uint32(0xFFFF)) >> 16, bits >> 16)
    return np.where(cut == 0, 0x8000, cut).astype(np.uint16)


def _kth(bits: NDArray[np.int16], k: int) -> NDArray[np.float32]:
    """The k-th greatest of each row of bfloat16 numbers [Q, B], given as their bits."""
    ordered = bits ^ ((bits >> 15) & np.int16(0x7FFF))
    place = bits.shape[1] - k
    ordered.partition(place, axis=1)
    kth = np.ascontiguousarray(ordered[:, place])
    return _floats((kth ^ ((kth >> 15) & np.int16(0x7FFF))).view(np.uint16))


def _floats(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (bits.astype(np.uint32) << 16).view(np.float32)
