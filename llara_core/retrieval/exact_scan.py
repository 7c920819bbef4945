"""The first pass of exact search: which documents could be among the k best, found by float32 products.

Names of axes: Q queries, N documents, B documents of one block, D dimensions, W places of the pool.

A float32 product lies within `slack` of the true one, so a document whose product is more than twice
that below the k-th best product cannot be among the k best. That floor only ever rises. Once it is
known roughly, a block of products needs no sorting: one comparison finds the few that lie above it.
"""

from __future__ import annotations

from functools import partial
from threading import RLock, get_ident
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llara_core.errors import InputError
from llara_core.retrieval.exact_threads import in_order, workers

QUERY_BLOCK = 1024  # queries of one matrix product
CORPUS_BLOCK = 4096  # documents of one matrix product: with 1,024 queries 16 MiB of scores
FIRST_BLOCK = 4096  # documents sorted to find the first floor
# Documents FAISS is given at once, where they lie; where it is given a float32 copy, a sixteenth of them.
FAISS_BLOCK = 1 << 20
SHARED_FROM = 1 << 15  # documents; FAISS alone shares the work of fewer among threads as well
_UNDERFLOW = 1e-20  # squares of vectors as short as this lose digits in float32, or vanish
LONGEST = 1e18  # of a vector: products of two such stay finite in float32
_UNIT = 2.0**-24  # rounding of one float32 operation
# |error of a product of D terms| <= 8 sqrt(D) unit |q| |c|, but for a chance of 2 exp(-32): Higham and
# Mary, "A new approach to probabilistic rounding error analysis", 2019. Four more units are the rounding
# of the floor itself and of the settled score.
_DEVIATIONS, _SPARE = 8.0, 4.0
_SMALLEST = 2.0**-126  # a product below it may be flushed to zero


class Hits(NamedTuple):
    """Documents of one block that lie above the floor, grouped by query."""

    query: NDArray[np.int64]  # [H], ascending
    row: NDArray[np.int64]  # [H]
    score: NDArray[np.float32]  # [H]
    length: float  # of the longest vector of the block
    rounding: float = 0.0  # length of the longest difference to a vector rounded to bfloat16


class Pool:
    """The best candidates of each query so far.

    Args:
        queries: [Q, D] float32, finite.
        k: results per query.
        width: W, candidates that a query may hold, more than k.
    """

    def __init__(self, queries: NDArray[np.float32], k: int, width: int) -> None:
        count, dimension = queries.shape
        self.k, self.width = k, width
        self.scores = np.full((count, width), -np.inf, np.float32)
        self.rows = np.zeros((count, width), np.int64)
        self.held = np.zeros(count, np.int64)
        self.kth = np.full(count, -np.inf, np.float32)  # the k-th best product seen, or less
        self.overflowed = np.zeros(count, bool)  # more candidates tie than the pool has places
        self.longest = self.rounding = 0.0  # the greatest |c| and |c - c'| seen
        self.lock = RLock()  # held by whoever changes the pool
        factor = (_DEVIATIONS * dimension**0.5 + _SPARE) * _UNIT
        self._unit = (factor * lengths(queries, "query")).astype(np.float64)
        self._flushed = dimension * _SMALLEST

    def floor(
        self, kth: NDArray[np.float32], longest: float, queries: slice | NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """The products [Q] below which no document among the k best can lie.

        Args:
            kth: the k-th best product of each query of the slice, or less.
            longest: length of the longest vector concerned, beside those seen before.
            queries: which queries.
        """
        slack = self._unit[queries] * max(self.longest, longest) + self._flushed
        return np.asarray(kth - 2 * slack, np.float32)

    def learn(self, kth: NDArray[np.float32], queries: slice, length: float, rounding: float = 0.0) -> None:
        """Raise the floors to the k-th best products [Q] of a block whose hits are yet to be added.

        The block's length comes first: a thread that reads the new floor allows for the error of the old.
        """
        with self.lock:
            self.longest, self.rounding = max(self.longest, length), max(self.rounding, rounding)
            np.maximum(self.kth[queries], kth, out=self.kth[queries])

    def add(self, hits: Hits) -> None:
        """Take the hits in; where a query has too many, only those above its raised floor are kept."""
        self.longest, self.rounding = max(self.longest, hits.length), max(self.rounding, hits.rounding)
        query, row, score = hits[:3]
        counts = np.bincount(query, minlength=len(self.held))
        place = np.arange(len(query)) + (self.held - (np.cumsum(counts) - counts))[query]
        total = self.held + counts
        full = total > self.width
        if full.any():
            crowded = full[query]
            hits = Hits(query[crowded], row[crowded], score[crowded], hits.length)
            self._make_room(np.flatnonzero(full), int(total.max()), hits, place[crowded])
            free = ~crowded
            query, place, row, score = query[free], place[free], row[free], score[free]
        self.scores[query, place], self.rows[query, place] = score, row
        self.held = np.where(full, self.held, total)

    def _make_room(self, full: NDArray[np.int64], width: int, hits: Hits, place: NDArray[np.int64]) -> None:
        """Add the hits of the queries that have no room for them, and keep what lies above the new floor."""
        scores = np.full((len(full), width), -np.inf, np.float32)
        rows = np.zeros((len(full), width), np.int64)
        scores[:, : self.width], rows[:, : self.width] = self.scores[full], self.rows[full]
        line = np.searchsorted(full, hits.query)
        scores[line, place], rows[line, place] = hits.score, hits.row
        kth = np.partition(scores, width - self.k, axis=1)[:, width - self.k]
        kept = scores >= self.floor(kth, 0.0, full)[:, None]
        counts = kept.sum(axis=1)
        lost = counts > self.width
        self.overflowed[full[lost]] = True
        kept[lost], counts[lost], kth[lost] = False, 0, np.inf  # nothing more needs to be found for these
        line, column = np.nonzero(kept)
        place = np.arange(len(line)) - (np.cumsum(counts) - counts)[line]
        self.scores[full] = -np.inf
        self.scores[full[line], place] = scores[line, column]
        self.rows[full[line], place] = rows[line, column]
        self.kth[full], self.held[full] = kth, counts

    def candidates(self) -> NDArray[np.bool_]:
        """Which places [Q, W] hold a document that may be among the k best."""
        kth = np.partition(self.scores, self.width - self.k, axis=1)[:, self.width - self.k]
        return np.asarray(self.scores >= self.floor(kth, 0.0, slice(None))[:, None])


class Scanner:
    """Finds the hits of one block after the other; its buffers are reused.

    Args:
        queries: [Q, D] float32.
        corpus: [N, D] float32 or float16, perhaps memory-mapped.
        pool: read for its floors; hits are not added to it.
    """

    def __init__(self, queries: NDArray[np.float32], corpus: NDArray[Any], pool: Pool) -> None:
        self._queries, self._corpus, self._pool = queries, corpus, pool
        self._scores = np.empty(0, np.float32)
        self._above = np.empty(0, bool)

    def __call__(self, start: int, end: int) -> Hits:
        """The hits among the documents from start to end.

        Raises:
            InputError: a vector holds NaN or infinity, or is longer than LONGEST.
        """
        block = np.asarray(self._corpus[start:end], np.float32)
        length = float(lengths(block, "document").max())
        parts = [
            self._scan(slice(first, min(first + QUERY_BLOCK, len(self._queries))), block, start, length)
            for first in range(0, len(self._queries), QUERY_BLOCK)
        ]
        if len(parts) == 1:
            return Hits(*parts[0], length)
        query, row, score = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Hits(query, row, score, length)

    def _scan(
        self, queries: slice, block: NDArray[np.float32], start: int, length: float
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        some = self._queries[queries]
        size, count = len(block), len(some)
        scores, above = self._buffers(size, count)
        np.matmul(block, some.T, out=scores)  # documents first: BLAS is some per cent faster this way round
        kth = self._pool.kth[queries].copy()
        if size > self._pool.k and np.isneginf(kth).all():  # the first block: sorted to find a floor
            place = size - self._pool.k
            kth = np.partition(np.ascontiguousarray(scores.T), place, axis=1)[:, place]
            self._pool.learn(kth, queries, length)
        np.greater_equal(scores, self._pool.floor(kth, length, queries), out=above)
        found = true_places(above.reshape(-1))
        document, query = np.divmod(found, count)
        order = np.argsort(query.astype(np.uint16), kind="stable")  # 16 bits: numpy sorts them by radix
        return query[order] + queries.start, document[order] + start, scores.reshape(-1)[found[order]]

    def _buffers(self, size: int, count: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        if self._scores.size < size * count:
            self._scores = np.empty(size * count, np.float32)
            self._above = np.empty(size * count, bool)
        shape = (size, count)
        return self._scores[: size * count].reshape(shape), self._above[: size * count].reshape(shape)


class FaissScanner:
    """The same by FAISS, on its GPUs where it has any; blocks whose ties it cuts off are scanned again.

    Args:
        queries: [Q, D] float32.
        corpus: [N, D] float32 or float16, perhaps memory-mapped.
        pool: read for its floors.
        faiss: the module.
        spare: results asked for beyond k, so that a cut-off tie is rare.

    Attributes:
        blocks: (start, end) of the parts of the corpus, an equal share for each of several threads.
    """

    def __init__(
        self, queries: NDArray[np.float32], corpus: NDArray[Any], pool: Pool, faiss: Any, spare: int = 8
    ) -> None:
        self._queries, self._corpus, self._pool = queries, corpus, pool
        self._faiss, self._spare = faiss, spare
        self._gpu = faiss.StandardGpuResources() if faiss.get_num_gpus() else None
        as_it_is = corpus.dtype == np.float32 and corpus.flags.c_contiguous
        shares = 1 if self._gpu or len(corpus) < SHARED_FROM else workers()
        most = FAISS_BLOCK if as_it_is else max(1, FAISS_BLOCK // 16 // shares)
        rounds = max(1, -(-len(corpus) // (most * shares)))
        size = max(1, -(-len(corpus) // (rounds * shares)))
        self.blocks = [(start, min(start + size, len(corpus))) for start in range(0, len(corpus), size)]
        self._caller, self._threads = get_ident(), max(1, faiss.omp_get_max_threads() // shares)

    def __call__(self, start: int, end: int) -> Hits:
        """The hits among the documents from start to end.

        Raises:
            InputError: a vector holds NaN or infinity, or is longer than LONGEST.
        """
        faiss, pool = self._faiss, self._pool
        block = np.ascontiguousarray(self._corpus[start:end], np.float32)
        parts = range(0, len(block), CORPUS_BLOCK)
        jobs = [partial(lengths, block[first : first + CORPUS_BLOCK], "document") for first in parts]
        if get_ident() == self._caller:
            length = max(float(part.max()) for part in in_order(jobs))
        else:
            length = max(float(job().max()) for job in jobs)
            faiss.omp_set_num_threads(self._threads)  # of OpenMP, for this thread of ours alone
        wide = min(pool.k + self._spare, len(block))
        arguments = (self._queries, block, wide, faiss.METRIC_INNER_PRODUCT)
        scores, rows = faiss.knn(*arguments) if self._gpu is None else faiss.knn_gpu(self._gpu, *arguments)
        if wide >= pool.k:
            pool.learn(scores[:, pool.k - 1], slice(None), length)
        floor = pool.floor(pool.kth.copy(), length, slice(None))
        above = scores >= floor[:, None]
        cut = above[:, -1] & (wide < len(block))
        above[cut] = False
        query, column = np.nonzero(above)
        found = [query], [rows[query, column] + start], [scores[query, column]]
        for one in np.flatnonzero(cut):
            again = block @ self._queries[one]
            column = np.flatnonzero(again >= floor[one])
            for part, more in zip(
                found, (np.full(len(column), one), column + start, again[column]), strict=True
            ):
                part.append(more)
        query, row, score = (np.concatenate(part) for part in found)
        order = np.argsort(query, kind="stable")
        return Hits(query[order], row[order].astype(np.int64), score[order], length)


def lengths(vectors: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """Euclidean lengths [N] of vectors [N, D]; this one pass also sees whatever is not finite.

    Raises:
        InputError: a vector holds NaN or infinity, or is longer than LONGEST.
    """
    found = norms(vectors)
    if not found.max(initial=0.0) <= LONGEST:  # also where it is NaN
        if not np.isfinite(vectors).all():
            raise InputError(
                f"search: the vector of a {name} holds NaN or infinity; the model that encoded it is broken"
            )
        raise InputError(f"search: the vector of a {name} is longer than {LONGEST:g}; normalise the vectors")
    return found


def norms(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Euclidean lengths [N] of vectors [N, D]; NaN or infinity where a vector holds one."""
    squares = np.einsum("nd,nd->n", vectors, vectors)
    found = np.asarray(np.sqrt(squares), np.float32)
    short = np.flatnonzero(squares < _UNDERFLOW)
    if len(short):
        few = vectors[short].astype(np.float64)
        found[short] = np.sqrt(np.einsum("nd,nd->n", few, few))
    return found


def true_places(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """``np.flatnonzero`` of a mask that is nearly all False: eight values are looked at as one number."""
    whole = len(mask) - len(mask) % 8
    eights = np.flatnonzero(mask[:whole].view(np.uint64) != 0)
    inner = np.flatnonzero(mask[:whole].reshape(-1, 8)[eights])
    return np.concatenate([eights[inner >> 3] * 8 + (inner & 7), whole + np.flatnonzero(mask[whole:])])
