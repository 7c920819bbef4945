"""Leak-free subsets of a test split: the queries that training has not given away.

SciFact's official split, for one, leaks: many test claims are a training claim negated, and most judged
test documents are positives of training queries. A score on all queries then says little about new ones.
``data.leaks`` finds and reports leaks of every kind; the subsets are the part of it that evaluation needs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from llara_core.data.collection import Collection
from llara_core.data.leaks_sides import Evaluation, Training
from llara_core.data.leaks_subsets import near_pairs, subsets_of
from llara_core.data.word_sets import similarities
from llara_core.data_settings import LeakSettings
from llara_core.errors import DataError
from llara_core.evaluation.results import SystemResult, select

logger = logging.getLogger(__name__)

TRAIN = "train"  # the split that may give away what is judged
LeakFree = dict[str, dict[str, float | int | None]]  # subset to its `queries` and the mean of each metric

# Jaccard similarity of word sets above which two queries say much the same
NEAR_DUPLICATE: float = LeakSettings().near_query

DESCRIPTIONS = {
    "all": "all queries of the split",
    "no_near_duplicate": (
        f"queries without a training query that shares more than {NEAR_DUPLICATE:.0%} of their joint words"
    ),
    "unseen_documents": "queries none of whose judged documents is a positive of a training query",
}


def leak_free_subsets(
    collection: Collection, split: str = "test", train_split: str = "train"
) -> dict[str, NDArray[np.bool_]]:
    """Return which queries of a split training has not given away.

    Args:
        collection: queries and judgements.
        split: the split judged.
        train_split: the split trained on; when the collection lacks it, nothing can leak.

    Returns:
        ``no_near_duplicate`` and ``unseen_documents`` to marks [Q], in the order of
        ``Collection.split_queries``. Empty where there is no training split.

    Raises:
        DataError: the split does not exist or judges no known query.
    """
    evaluation, training = Evaluation.of(collection, split), Training.of(collection, train_split)
    return subsets_of(evaluation, training, near_pairs(evaluation.texts, training.texts, NEAR_DUPLICATE))


def judged_subsets(collection: Collection, result: SystemResult) -> dict[str, NDArray[np.bool_]]:
    """Return the leak-free subsets of the queries of a result; none is an answer too, never an error.

    Args:
        collection: that the result was made on.
        result: of any system; the subsets are the same for all.

    Returns:
        Subset to marks [Q] in the order of the result's queries. Empty where there is no training split, it
        cannot be used (logged: the official scores stand all the same), or it is itself what was judged.
    """
    if result.split == TRAIN or TRAIN not in collection.qrels:
        return {}
    try:
        subsets = leak_free_subsets(collection, result.split, TRAIN)
    except DataError as error:
        logger.warning(
            "%s: no leak-free scores, its training split cannot be used: %s", collection.name, error
        )
        return {}
    places = {query: place for place, query in enumerate(collection.split_queries(result.split)[0])}
    order = [places[query] for query in result.query_ids]
    return {name: marks[order] for name, marks in subsets.items()}


def leak_free_means(result: SystemResult, subsets: Mapping[str, NDArray[np.bool_]]) -> LeakFree:
    """Return the scores of one system on the leak-free subsets, to stand beside its official ones.

    Args:
        result: its scores on the whole split.
        subsets: what ``judged_subsets`` gave, in the order of the result's queries.

    Returns:
        Subset to ``queries``, how many it has, and the mean of every metric; None where it has no query.
        Empty where training gives no query away: each subset is then the whole split.

    Raises:
        ValueError: a subset marks another number of queries than the result has.

    Source: issue 5, point 5.
    """
    if any(len(marks) != len(result.query_ids) for marks in subsets.values()):
        raise ValueError(
            f"{result.collection}: the subsets mark other queries than the {len(result.query_ids)} judged"
        )
    if all(marks.all() for marks in subsets.values()):
        return {}
    found: LeakFree = {}
    for name, marks in subsets.items():
        chosen = select(result, marks)
        means = {metric: float(values.mean()) if len(values) else None for metric, values in chosen.items()}
        found[name] = {"queries": int(marks.sum()), **means}
    return found


def leak_free_cell(means: Mapping[str, float | int | None], metric: str, queries: int) -> str:
    """Return a mean with the subset's size, ``0.5124 (104)``, or why there is none beside the official one.

    Args:
        means: of one subset, from ``leak_free_means``.
        metric: its name.
        queries: of the whole split.
    """
    count, value = means["queries"], means.get(metric)
    if count == queries:
        return "n/a (all)"  # the official score once more
    if not count:
        return "n/a (none)"
    return "-" if value is None else f"{value:.4f} ({count:,})"


def greatest_jaccard(texts: Iterable[str], others: Iterable[str]) -> NDArray[np.float64]:
    """Return for each text the greatest Jaccard similarity of word sets with any other text, [Q].

    A text without words has 0, and so has each where there are no other texts.
    """
    return np.array([found.max(initial=0.0) for found in similarities(texts, others)], np.float64)
