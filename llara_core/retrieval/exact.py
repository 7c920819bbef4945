"""Exact inner-product search: the k best rows of a corpus for each query, ties settled by row.

Names of axes: Q queries, N documents, D dimensions, K results per query.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.errors import InputError

_QUERY_BLOCK, _CORPUS_BLOCK = 256, 16_384  # one block of scores: 16 MiB
_FAISS_QUERY_BLOCK = 4096  # FAISS's own block of queries: fewer would only cost it more barriers
_SETTLED_NUMBERS = 1 << 22  # candidates' vectors held in float64 at once: 32 MiB
_MARGIN = 8  # candidates beyond k, so that rounding and ties at the edge are seen
_ROUNDING = 4e-6  # relative error of a float32 matrix product that may swap neighbours
_BLAS_FROM = 20  # queries; FAISS's own default (128000 in 1.15.1) leaves small batches 10x slower


def search(
    queries: NDArray[np.float32], corpus: NDArray[np.float32], k: int, *, use_faiss: bool | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the k documents of greatest inner product with each query, best first.

    1. A matrix product in blocks (FAISS where installed, else numpy) finds a few more than k candidates.
    2. The candidates' scores are computed again in float64, one by one, so that equal vectors score
       equally wherever they stand, and both ways give the same answer.
    3. They are sorted by score, ties by ascending row. A query whose ties reach past the candidates
       is settled over the whole corpus.

    Args:
        queries: [Q, D].
        corpus: [N, D]; may be memory-mapped, and is read in blocks.
        k: results per query, ≥ 1; at most N are returned.
        use_faiss: None: when it is installed.

    Returns:
        Scores [Q, min(k, N)] float32 and rows [Q, min(k, N)] int64.

    Raises:
        InputError: k < 1, the dimensions differ, or a vector holds NaN or infinity.
    """
    queries, corpus = np.asarray(queries, np.float32), np.asarray(corpus, np.float32)
    _check(queries, corpus, k)
    k = min(k, len(corpus))
    scores = np.zeros((len(queries), k), np.float32)
    rows = np.zeros((len(queries), k), np.int64)
    if not k or not len(queries):
        return scores, rows
    wide = min(k + _MARGIN, len(corpus))
    faiss = _faiss() if use_faiss in (None, True) else None
    step = _QUERY_BLOCK if faiss is None else _FAISS_QUERY_BLOCK
    settled = max(1, _SETTLED_NUMBERS // (wide * max(1, corpus.shape[1])))
    for start in range(0, len(queries), step):
        candidates = _candidates(queries[start : start + step], corpus, wide, faiss)
        for first in range(0, len(candidates), settled):
            block = slice(start + first, min(start + first + settled, start + len(candidates)))
            some = candidates[first : first + settled]
            scores[block], rows[block] = _settle(queries[block], corpus, some, k)
    return scores, rows


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


def _check(queries: NDArray[np.float32], corpus: NDArray[np.float32], k: int) -> None:
    if k < 1:
        raise InputError(f"search: k must be at least 1, got {k}")
    if queries.ndim != 2 or corpus.ndim != 2 or queries.shape[1] != corpus.shape[1]:
        raise InputError(
            f"search: expected queries [Q, D] and corpus [N, D] of the same D, got {queries.shape} and "
            f"{corpus.shape}; were they encoded by the same model?"
        )
    finite = np.isfinite(queries).all() and all(
        np.isfinite(corpus[start : start + _CORPUS_BLOCK]).all()
        for start in range(0, len(corpus), _CORPUS_BLOCK)
    )
    if not finite:
        raise InputError("search: a vector holds NaN or infinity; the model that encoded it is broken")


def _faiss() -> Any | None:
    """Return FAISS set to use BLAS from small batches on, or None where it is not installed."""
    if importlib.util.find_spec("faiss") is None:
        return None
    faiss = importlib.import_module("faiss")
    faiss.cvar.distance_compute_blas_threshold = _BLAS_FROM
    return faiss


def _candidates(
    queries: NDArray[np.float32], corpus: NDArray[np.float32], wide: int, faiss: Any | None
) -> NDArray[np.int64]:
    """Rows of about the `wide` best documents of each query, [Q, wide], in no settled order."""
    if faiss is not None:
        # knn reads the corpus where it lies; an IndexFlatIP would hold a second copy.
        _, rows = faiss.knn(
            np.ascontiguousarray(queries), np.ascontiguousarray(corpus), wide, faiss.METRIC_INNER_PRODUCT
        )
        return np.asarray(rows, np.int64)
    best = np.empty((len(queries), 0), np.float32)
    best_rows = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(corpus), _CORPUS_BLOCK):
        scores = queries @ corpus[start : start + _CORPUS_BLOCK].T
        columns = _greatest(scores, wide)
        best = np.concatenate([best, np.take_along_axis(scores, columns, axis=1)], axis=1)
        best_rows = np.concatenate([best_rows, columns + start], axis=1)
        columns = _greatest(best, wide)
        best = np.take_along_axis(best, columns, axis=1)
        best_rows = np.take_along_axis(best_rows, columns, axis=1)
    return best_rows


def _greatest(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Columns of the k greatest scores of each row [Q, N], in no order; all N where there are fewer."""
    width = scores.shape[1]
    if width <= k:
        return np.broadcast_to(np.arange(width), scores.shape)
    return np.argpartition(scores, width - k, axis=1)[:, width - k :]


def _settle(
    queries: NDArray[np.float32], corpus: NDArray[np.float32], candidates: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Score the candidates [Q, C] again and sort them; the k best of each query."""
    ordered = np.sort(candidates, axis=1)  # ascending rows: a stable sort by score settles ties by row
    exact = _exact(queries, corpus[ordered])
    columns = np.argsort(-exact, axis=1, kind="stable")
    scores = np.take_along_axis(exact, columns, axis=1)
    rows = np.take_along_axis(ordered, columns, axis=1)
    if ordered.shape[1] < len(corpus):
        room = _ROUNDING * np.maximum(1.0, np.abs(scores[:, k - 1]))
        for place in np.flatnonzero(scores[:, k - 1] - scores[:, -1] <= room):
            scores[place, :k], rows[place, :k] = _whole(queries[place], corpus, k)
    return scores[:, :k], rows[:, :k]


def _whole(
    query: NDArray[np.float32], corpus: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k best of one query over the whole corpus, every score computed alike."""
    blocks = [corpus[None, start : start + _CORPUS_BLOCK] for start in range(0, len(corpus), _CORPUS_BLOCK)]
    scores = np.concatenate([_exact(query[None], block) for block in blocks], axis=1)
    best, rows = top_k(scores, k)
    return best[0], rows[0]


def _exact(queries: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inner products [Q, C] of queries [Q, D] and their own vectors [Q, C, D], summed in float64.

    Plain einsum sums every product in the same order whatever its neighbours are; BLAS would not.
    """
    wide = queries.astype(np.float64)
    total: NDArray[np.float32] = np.einsum("qcd,qd->qc", vectors.astype(np.float64), wide).astype(np.float32)
    return total
