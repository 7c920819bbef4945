"""The order in which trec_eval reads a run: score as float32, then document id as a string, both descending.

Names of axes: Q queries, K results per query, D results kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

PADDING = -1  # row, or column, of a place that holds no document

Names = Callable[[NDArray[np.int64], NDArray[np.int64]], list[str]]  # of places and columns, both [T]
_BLOCK = 1 << 22  # scores compared at once


def trec_order(
    corpus_ids: Sequence[str], rows: NDArray[np.int64], scores: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return rows and scores [Q, K] in trec_eval's order: score, then document id, both descending.

    Padding goes last, and scores as minus infinity there.

    Args:
        corpus_ids: N ids; only those of tied results are read.
        rows: corpus rows found, [Q, K]; ``PADDING`` where there are fewer.
        scores: their scores, [Q, K].
    """
    columns = best_columns(scores, rows != PADDING, rows.shape[1], names_of_rows(corpus_ids, rows))
    empty = columns == PADDING
    as_held = np.where(empty, -np.inf, np.take_along_axis(scores, columns, axis=1)).astype(np.float32)
    return np.where(empty, PADDING, np.take_along_axis(rows, columns, axis=1)), as_held


def names_of_rows(corpus_ids: Sequence[str], rows: NDArray[np.int64]) -> Names:
    """Return the look-up of document ids that the others ask for, from rows [Q, K] of a corpus."""
    return lambda places, columns: [corpus_ids[row] for row in rows[places, columns].tolist()]


def best_columns(
    scores: NDArray[np.float32], valid: NDArray[np.bool_], depth: int, names: Names
) -> NDArray[np.int64]:
    """Return the columns of the first results of each query, [Q, min(depth, K)]; ``PADDING`` past the last.

    1. A selection finds each query's score at `depth`; what is below it is never sorted.
    2. What is left is sorted by score, as one integer key per result.
    3. Only results of equal score are looked up by document id and sorted by it, descending.

    Args:
        scores: [Q, K]; compared as float32, as trec_eval holds them; NaN counts as minus infinity.
        valid: which places hold a document, [Q, K].
        depth: results wanted per query.
        names: gives the document ids of some results, by their places and columns.
    """
    queries, width = scores.shape
    depth = min(depth, width)
    result = np.full((queries, depth), PADDING, np.int64)
    if not result.size:
        return result
    held = np.where(valid & ~np.isnan(scores), scores, -np.inf).astype(np.float32)
    kept = valid
    if depth < width:
        least = np.partition(held, width - depth, axis=1)[:, width - depth]
        kept = valid & (held >= least[:, None])
    places, columns = np.nonzero(kept)
    keys = sort_keys(places, held[places, columns])
    order = np.argsort(keys, kind="stable")
    order = _untied(order, keys[order], lambda some: names(places[some], columns[some]))
    starts = np.searchsorted(places, np.arange(queries))
    ranks = np.arange(len(places)) - starts[places]  # `places` is ascending, sorted or not
    within = ranks < depth
    result[places[within], ranks[within]] = columns[order][within]
    return result


def ranks_of_scores(
    scores: NDArray[np.float32],
    valid: NDArray[np.bool_],
    places: NDArray[np.int64],
    values: NDArray[np.float32],
    ids: Sequence[str],
    names: Names,
    depth: int,
) -> NDArray[np.int64]:
    """Return the rank, from 0, of some results: how many stand before each in trec_eval's order, [F].

    Nothing else is looked up by name than what shares a score with one of them; ranks from `depth` on are
    not settled among results of equal score.

    Args:
        scores: of all results, [Q, K], without NaN; minus infinity where there is none.
        valid: where there is one, [Q, K].
        places: queries of the wanted results, [F].
        values: their scores, [F], without NaN.
        ids: their document ids, [F].
        names: gives the document ids of some results, by their places and columns.
        depth: ranks that are read.
    """
    width = scores.shape[1]
    keys = sort_keys(np.repeat(np.arange(len(scores)), width), -np.sort(-scores, axis=1).ravel())
    wanted = sort_keys(places, values)
    ranks: NDArray[np.int64] = np.searchsorted(keys, wanted, side="left") - places * width
    equal = np.searchsorted(keys, wanted, side="right") - places * width - ranks
    tied = np.flatnonzero((equal > 1) & (ranks < depth))
    step = max(1, _BLOCK // max(1, width))
    for start in range(0, len(tied), step):
        some = tied[start : start + step]
        same = scores[places[some]] == values[some, None]
        if np.isneginf(values[some]).any():  # a result may score as places without one do
            same &= valid[places[some]]
        which, columns = np.nonzero(same)
        others = names(places[some][which], columns)
        before = [other > ids[hit] for hit, other in zip(some[which].tolist(), others, strict=True)]
        ranks[some] += np.bincount(which[np.array(before, np.bool_)], minlength=len(some))
    return ranks


def sort_keys(places: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return one integer per result, [T], that ascends with its query's place, then as its score descends.

    Args:
        places: of the queries, below 2^30, [T].
        scores: without NaN, [T]; equal scores of a query have equal keys.
    """
    # The bits of positive floats ascend with their value; those of negative ones descend, so they are
    # flipped. Adding 0 turns -0 into 0: they are equal scores.
    bits = (scores + np.float32(0)).view(np.int32)
    ascending = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)
    return (places.astype(np.int64) << 33) - ascending


def _untied(
    order: NDArray[np.int64], keys: NDArray[np.int64], names: Callable[[NDArray[np.int64]], list[str]]
) -> NDArray[np.int64]:
    """The order [T] with each run of equal keys (sorted, [T]) put in descending order of name."""
    same = keys[1:] == keys[:-1]
    if not same.any():
        return order
    at = np.flatnonzero(np.concatenate([same, [False]]) | np.concatenate([[False], same]))
    tied = order[at]
    found = names(tied)
    rank_of = {name: rank for rank, name in enumerate(sorted(set(found)))}
    ranks = np.fromiter(map(rank_of.__getitem__, found), np.int64, len(found))
    result = order.copy()
    result[at] = tied[np.lexsort((-ranks, keys[at]))]
    return result
