"""Leak-free subsets: the evaluation queries that training has not given away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llara_core.data.leaks_sides import Evaluation, Training
from llara_core.data.word_sets import similarities


class NearPairs(NamedTuple):
    """Queries that say much the same."""

    queries: NDArray[np.int64]  # [P] places among the evaluation queries
    others: NDArray[np.int64]  # [P] places among the training queries
    similarity: NDArray[np.float64]  # [P] Jaccard similarity of their word sets


def near_pairs(texts: Sequence[str], others: Sequence[str], above: float) -> NearPairs:
    """Every pair of texts whose word sets have a Jaccard similarity above a bound.

    Args:
        texts: evaluation queries.
        others: training queries; all are held, as an inverted index.
        above: the bound; a pair right at it is none.
    """
    queries, places, values = [], [], []
    for place, found in enumerate(similarities(texts, others)):
        (near,) = np.nonzero(found > above)
        queries.append(np.full(len(near), place))
        places.append(near)
        values.append(found[near])
    if not queries:
        return NearPairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return NearPairs(np.concatenate(queries), np.concatenate(places), np.concatenate(values))


def subsets_of(evaluation: Evaluation, training: Training, near: NearPairs) -> dict[str, NDArray[np.bool_]]:
    """Marks of the queries that are in no near pair, and of those without a judged training positive.

    Returns:
        ``no_near_duplicate`` and ``unseen_documents`` to marks [Q]; empty where there is no training split.
    """
    if not training.known:
        return {}
    apart = np.ones(len(evaluation.ids), np.bool_)
    apart[near.queries] = False
    unseen = [training.positives.keys().isdisjoint(evaluation.judged[query]) for query in evaluation.ids]
    return {"no_near_duplicate": apart, "unseen_documents": np.array(unseen, np.bool_)}
