"""Leak-free subsets of a test split: the queries that training has not given away.

SciFact's official split, for one, leaks: many test claims are a training claim negated, and most judged
test documents are positives of training queries. A score on all queries then says little about new ones.
``data.leaks`` finds and reports leaks of every kind; the subsets are the part of it that evaluation needs.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from llara_core.data.collection import Collection
from llara_core.data.leaks_sides import Evaluation, Training
from llara_core.data.leaks_subsets import near_pairs, subsets_of
from llara_core.data.word_sets import similarities
from llara_core.data_settings import LeakSettings

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


def greatest_jaccard(texts: Iterable[str], others: Iterable[str]) -> NDArray[np.float64]:
    """Return for each text the greatest Jaccard similarity of word sets with any other text, [Q].

    A text without words has 0, and so has each where there are no other texts.
    """
    return np.array([found.max(initial=0.0) for found in similarities(texts, others)], np.float64)
