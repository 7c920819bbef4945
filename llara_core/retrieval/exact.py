"""Exact inner-product search: the k best rows of a corpus for each query, ties settled by row.

Names of axes: Q queries, N documents, D dimensions, K results per query.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.errors import InputError
from llara_core.retrieval import exact_bfloat, exact_scan
from llara_core.retrieval.exact_bfloat import BfloatPool, BfloatScanner
from llara_core.retrieval.exact_prepared import Prepared, PreparedScanner
from llara_core.retrieval.exact_scan import FaissScanner, Hits, Pool, Scanner
from llara_core.retrieval.exact_threads import in_order, workers

_POOL_BYTES = 1 << 26  # of candidates held at once: 28,000 queries of k = 100
_BYTES_PER_PLACE = 12
_PLACES_PER_RESULT, _LEAST_PLACES = 2, 96  # more places: fewer clearings, but later floors and more hits
_SETTLED_QUERIES = 64  # settled by one thread at a time
_SETTLED_NUMBERS = 1 << 20  # candidates of a thread, or numbers of the corpus in float64, held at once
_BLAS_FROM = 20  # queries; FAISS's own default (128000 in 1.15.1) leaves small batches 10x slower


def search(
    queries: NDArray[Any],
    corpus: NDArray[Any] | Prepared,
    k: int,
    *,
    use_faiss: bool | None = None,
    use_bfloat16: bool | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the k documents of greatest inner product with each query, best first.

    1. Matrix products in bfloat16 or float32, block by block, find the documents that may be among the k
       best: those whose product is not further below the k-th best than rounding can explain
       (``exact_bfloat``, ``exact_scan``).
    2. Their scores are computed again in float64, one by one, so that equal vectors score equally
       wherever they stand, and every way and every blocking give the same answer.
    3. They are sorted by score, ties by ascending row. A query for which more documents tie than are
       held is settled over the whole corpus.

    The corpus is read once for up to 28,000 queries at k = 100. Beyond it, memory grows with Q and k,
    not with N.

    Args:
        queries: [Q, D].
        corpus: [N, D] float32 or float16; may be memory-mapped. Another type is converted as a whole. One
            that is searched often is better prepared once (``exact_prepared``); the answer is the same.
        k: results per query, ≥ 1; at most N are returned.
        use_faiss: whether FAISS makes the products, on its GPUs where it has any, or numpy; None: FAISS
            where it is installed.
        use_bfloat16: whether products in bfloat16 come before; where they tell too few documents apart,
            the search starts anew as ``use_faiss`` says. None: where this is the fastest way, unless
            ``use_faiss`` is given.

    Returns:
        Scores [Q, min(k, N)] float32 and rows [Q, min(k, N)] int64.

    Raises:
        InputError: k < 1, the dimensions differ, or a vector holds NaN or infinity or is longer than 1e18.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    prepared = corpus if isinstance(corpus, Prepared) and corpus.rounded is not None else None
    if isinstance(corpus, Prepared):
        corpus = corpus.vectors
    if not isinstance(corpus, np.ndarray) or corpus.dtype not in (np.float16, np.float32):
        corpus = np.asarray(corpus, np.float32)
    check_shapes(queries, corpus.shape, k)
    k = min(k, len(corpus))
    scores = np.zeros((len(queries), k), np.float32)
    rows = np.zeros((len(queries), k), np.int64)
    faiss = None if use_faiss is False else faiss_module()
    if use_bfloat16 is None:
        on_gpu = faiss is not None and faiss.get_num_gpus() > 0
        use_bfloat16 = use_faiss is None and not on_gpu and _worthwhile(queries, corpus, k, prepared)
    width = max((exact_bfloat.PLACES_PER_RESULT if use_bfloat16 else _PLACES_PER_RESULT) * k, _LEAST_PLACES)
    step = max(1, _POOL_BYTES // (_BYTES_PER_PLACE * width))
    for start in range(0, len(queries) if k else 0, step):
        left = np.arange(start, min(start + step, len(queries)))
        if use_bfloat16:
            coarse = BfloatPool(queries[left], k, width)
            scanned = (
                (corpus, coarse, BfloatScanner) if prepared is None else (prepared, coarse, PreparedScanner)
            )
            use_bfloat16 = _scan_blocks(queries[left], *scanned)
            if use_bfloat16:
                scores[left], rows[left] = _settled(queries[left], corpus, coarse)
                left = left[coarse.overflowed]
        if len(left):
            pool = Pool(queries[left], k, width)
            _scan(queries[left], corpus, pool, faiss)
            scores[left], rows[left] = _settled(queries[left], corpus, pool)
            lost = left[pool.overflowed]
            if len(lost):
                scores[lost], rows[lost] = _whole(queries[lost].astype(np.float64), corpus, k)
    return scores, rows


def _worthwhile(
    queries: NDArray[np.float32], corpus: NDArray[Any], k: int, prepared: Prepared | None
) -> bool:
    """Whether products in bfloat16 are likely to be the fastest way."""
    if prepared is not None and prepared.worthwhile(len(queries), k):
        return True
    return exact_bfloat.worthwhile(queries.shape, len(corpus), k)


def top_k(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the k greatest values of each row [Q, N] and their columns, ties by ascending column.

    Returns:
        Values [Q, min(k, N)] and columns [Q, min(k, N)] int64, greatest first.
    """
    width = scores.shape[1]
    k = min(k, width)
    columns = np.zeros((len(scores), k), np.int64)
    if k:
        least = np.partition(scores, width - k, axis=1)[:, width - k]
        for place, row in enumerate(scores):
            above = np.flatnonzero(row > least[place])
            tied = np.flatnonzero(row == least[place])[: k - len(above)]
            found = np.concatenate([above, tied])
            columns[place] = found[np.lexsort((found, -row[found]))]
    return np.take_along_axis(scores, columns, axis=1), columns


def check_shapes(queries: NDArray[np.float32], corpus: tuple[int, ...], k: int) -> None:
    """Refuse what cannot be searched.

    Raises:
        InputError: k < 1, or the shapes are not [Q, D] and [N, D] of the same D.
    """
    if k < 1:
        raise InputError(f"search: k must be at least 1, got {k}")
    if queries.ndim != 2 or len(corpus) != 2 or queries.shape[1] != corpus[1]:
        raise InputError(
            f"search: expected queries [Q, D] and corpus [N, D] of the same D, got {queries.shape} and "
            f"{corpus}; were they encoded by the same model?"
        )


def faiss_module() -> Any | None:
    """Return FAISS set to use BLAS from small batches on, or None where it is not installed."""
    if importlib.util.find_spec("faiss") is None:
        return None
    faiss = importlib.import_module("faiss")
    faiss.cvar.distance_compute_blas_threshold = _BLAS_FROM
    return faiss


def _scan(queries: NDArray[np.float32], corpus: NDArray[Any], pool: Pool, faiss: Any | None) -> None:
    """Fill the pool with the hits of all blocks, by FAISS or numpy."""
    if faiss is None:
        _scan_blocks(queries, corpus, pool, Scanner)
        return
    scanner = FaissScanner(queries, corpus, pool, faiss)

    def scan(start: int, end: int) -> None:
        hits = scanner(start, end)
        with pool.lock:
            pool.add(hits)

    for _ in in_order([partial(scan, start, end) for start, end in scanner.blocks]):
        pass


def _scan_blocks(queries: NDArray[np.float32], corpus: Any, pool: Pool, scanner: Any) -> bool:
    """Fill the pool with the hits of all blocks; False where it was given up for being crowded."""
    scanners: SimpleQueue[Callable[[int, int], Hits]] = SimpleQueue()
    for _ in range(workers()):
        scanners.put(scanner(queries, corpus, pool))
    taken = 0

    def scan(start: int, end: int) -> bool:
        """Whether the search is to go on after this block."""
        nonlocal taken
        scanner = scanners.get()
        try:
            hits = scanner(start, end)
        finally:
            scanners.put(scanner)
        with pool.lock:  # in any order: what is kept decides the time, never the answer
            pool.add(hits)
            taken += end - start
            return not (isinstance(pool, BfloatPool) and pool.crowded(taken))

    coarse = isinstance(pool, BfloatPool)
    blocks = _blocks(len(corpus), pool.k, coarse, len(queries))
    return all(in_order([partial(scan, start, end) for start, end in blocks]))


def _blocks(count: int, k: int, coarse: bool, queries: int) -> Iterator[tuple[int, int]]:
    """Blocks of the corpus: small at first, while the floors are still low and most products are hits."""
    most = exact_scan.CORPUS_BLOCK
    if coarse:
        most = exact_bfloat.BLOCK if queries >= exact_bfloat.MEASURED_FROM else exact_bfloat.FEW_BLOCK
    start, size = 0, max(exact_bfloat.BLOCK if coarse else exact_scan.FIRST_BLOCK, 2 * k)
    while start < count:
        end = min(start + size, count)
        yield start, end
        start, size = end, min(most, end)


def _settled(
    queries: NDArray[np.float32], corpus: NDArray[Any], pool: Pool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Score the pool's candidates in float64 and return the k best; zeros where the pool overflowed."""
    scores = np.zeros((len(queries), pool.k), np.float32)
    rows = np.zeros((len(queries), pool.k), np.int64)
    chosen, wide = pool.candidates(), queries.astype(np.float64)
    most = int(chosen.sum(axis=1).max())
    share = -(-len(queries) // workers())
    step = max(1, min(_SETTLED_QUERIES, share, _SETTLED_NUMBERS // max(1, most)))

    def settle(first: int) -> None:
        some = slice(first, min(first + step, len(queries)))
        # Ascending rows, so that a stable sort by score settles ties by row; places past the end score -inf.
        found = np.sort(np.where(chosen[some], pool.rows[some], len(corpus)), axis=1)[:, :most]
        exact = np.full(found.shape, -np.inf, np.float32)
        narrow, broad = (np.empty((most, corpus.shape[1]), kind) for kind in (corpus.dtype, np.float64))
        for place, query in enumerate(wide[some]):
            count = int(np.searchsorted(found[place], len(corpus)))
            np.take(corpus, found[place, :count], axis=0, out=narrow[:count], mode="clip")  # raise would copy
            np.copyto(broad[:count], narrow[:count])
            exact[place, :count] = exact_scores(query, broad[:count])
        order = np.argsort(-exact, axis=1, kind="stable")[:, : pool.k]
        kept = np.flatnonzero(~pool.overflowed[some])
        scores[some][kept] = np.take_along_axis(exact, order, axis=1)[kept]
        rows[some][kept] = np.take_along_axis(found, order, axis=1)[kept]

    for _ in in_order([partial(settle, first) for first in range(0, len(queries), step)]):
        pass
    return scores, rows


def _whole(
    queries: NDArray[np.float64], corpus: NDArray[Any], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k best of queries [L, D] over the whole corpus, every score computed alike."""
    best = np.empty((len(queries), 0), np.float32)
    rows = np.empty((len(queries), 0), np.int64)
    step = max(1, _SETTLED_NUMBERS // max(1, corpus.shape[1]))
    for start in range(0, len(corpus), step):
        block = corpus[start : start + step].astype(np.float64)
        here = np.stack([exact_scores(query, block) for query in queries])
        # Earlier rows stand first, so top_k's ties by column are ties by row.
        found = np.broadcast_to(np.arange(start, start + len(block)), here.shape)
        best, columns = top_k(np.concatenate([best, here], axis=1), k)
        rows = np.take_along_axis(np.concatenate([rows, found], axis=1), columns, axis=1)
    return best, rows


def exact_scores(query: NDArray[np.float64], vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Inner products [C] of a query [D] and vectors [C, D], summed in float64.

    Equal vectors score equally wherever they stand: plain einsum sums every product in the
    same order whatever its neighbours are; BLAS would not.
    """
    total: NDArray[np.float32] = np.einsum("cd,d->c", np.asarray(vectors, np.float64), query).astype(
        np.float32
    )
    return total
