"""Metric names, and their values from the ranks of relevant results: nothing here knows documents.

Names of axes: Q queries, F relevant results found, H results that nobody judged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NAME = re.compile(r"(ndcg|mrr|recall|precision|map|r_cap|hole)_at_([1-9][0-9]*)", re.ASCII)

Values = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Graded:
    """What the metrics read. Places number the queries; ranks start at 0.

    Args:
        places: queries of the relevant results, ascending, [F].
        ranks: where they stand, ascending within a query, [F].
        gains: their grades, [F].
        hole_places: queries of the results that nobody judged, [H]; empty where no metric asks for them.
        hole_ranks: where those stand, [H].
        ideal: each query's positive grades, descending, padded with 0, [Q, most of any query].
        relevant: how many documents have a positive grade, [Q].
    """

    places: Integers
    ranks: Integers
    gains: Integers
    hole_places: Integers
    hole_ranks: Integers
    ideal: Integers
    relevant: Integers


def parse(metrics: Sequence[str]) -> list[tuple[str, str, int]]:
    """Return name, kind and cut-off k of each metric.

    Raises:
        ValueError: a name is none of the known forms.
    """
    found = []
    for name in metrics:
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(
                f"unknown metric {name!r}; expected ndcg_at_K, mrr_at_K, recall_at_K, precision_at_K, "
                "map_at_K, r_cap_at_K or hole_at_K with K a whole number from 1 on, such as ndcg_at_10"
            )
        found.append((name, match[1], int(match[2])))
    return found


def values_of(graded: Graded, parsed: Sequence[tuple[str, str, int]]) -> dict[str, Values]:
    """Return metric name to values [Q] in [0, 1]; 0 where a query has no relevant document or no result."""
    return {name: _KINDS[kind](graded, k) for name, kind, k in parsed}


def _ndcg(graded: Graded, k: int) -> Values:
    """Linear gain over log2(rank + 1), ranks from 1."""
    first = graded.ranks < k
    gained = _sums(graded, first, graded.gains[first] / np.log2(graded.ranks[first] + 2))
    ideal = graded.ideal[:, :k]
    best = (ideal / np.log2(np.arange(2, ideal.shape[1] + 2))).sum(axis=1)
    return gained / np.where(best > 0, best, 1.0)


def _mrr(graded: Graded, k: int) -> Values:
    best = np.full(len(graded.relevant), np.inf)
    np.minimum.at(best, graded.places, graded.ranks + 1.0)
    return np.where(best <= k, 1 / best, 0.0)


def _recall(graded: Graded, k: int) -> Values:
    return _hits(graded, k) / np.maximum(graded.relevant, 1)


def _precision(graded: Graded, k: int) -> Values:
    return _hits(graded, k) / k


def _map(graded: Graded, k: int) -> Values:
    first = graded.ranks < k
    so_far = np.arange(len(graded.places)) - np.searchsorted(graded.places, graded.places) + 1
    total = _sums(graded, first, so_far[first] / (graded.ranks[first] + 1))
    return total / np.maximum(graded.relevant, 1)


def _r_cap(graded: Graded, k: int) -> Values:
    return _hits(graded, k) / np.maximum(np.minimum(graded.relevant, k), 1)


def _hole(graded: Graded, k: int) -> Values:
    places = graded.hole_places[graded.hole_ranks < k]
    return np.bincount(places, minlength=len(graded.relevant)) / k


def _hits(graded: Graded, k: int) -> Values:
    first = graded.ranks < k
    return _sums(graded, first, np.ones(int(first.sum())))


def _sums(graded: Graded, chosen: NDArray[np.bool_], values: Values) -> Values:
    """Sum per query, [Q], of the values of the chosen results."""
    return np.bincount(graded.places[chosen], values, minlength=len(graded.relevant)).astype(np.float64)


_KINDS: dict[str, Callable[[Graded, int], Values]] = {
    "ndcg": _ndcg, "mrr": _mrr, "recall": _recall, "precision": _precision, "map": _map,
    "r_cap": _r_cap, "hole": _hole,
}  # fmt: skip
