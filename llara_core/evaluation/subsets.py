"""Leak-free subsets of a test split: the queries that training has not given away.

SciFact's official split, for one, leaks: many test claims are a training claim negated, and most judged
test documents are positives of training queries. A score on all queries then says little about new ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from llara_core.data.collection import Collection
from llara_core.retrieval.words import word_set

NEAR_DUPLICATE = 0.7  # Jaccard similarity of word sets above which two queries say much the same

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
    query_ids, texts = collection.split_queries(split)
    if train_split not in collection.qrels:
        return {}
    train_qrels = collection.judgements(train_split)
    _, train_texts = collection.split_queries(train_split)
    positives = {
        document for grades in train_qrels.values() for document, grade in grades.items() if grade > 0
    }
    qrels = collection.judgements(split)
    return {
        "no_near_duplicate": greatest_jaccard(texts, train_texts) <= NEAR_DUPLICATE,
        "unseen_documents": np.array([positives.isdisjoint(qrels[query]) for query in query_ids], np.bool_),
    }


def greatest_jaccard(texts: Iterable[str], others: Iterable[str]) -> NDArray[np.float64]:
    """Return for each text the greatest Jaccard similarity of word sets with any other text, [Q].

    Only texts that share a word are compared, by an inverted index: counting the shared words per other
    text costs the length of the posting lists, not the product of the two lists' texts.
    A text without words has 0.
    """
    other_sets = [word_set(text) for text in others]
    sizes = np.array([len(words) for words in other_sets], np.int64)
    postings: dict[str, list[int]] = defaultdict(list)
    for place, words in enumerate(other_sets):
        for word in words:
            postings[word].append(place)
    lists = {word: np.array(places, np.int64) for word, places in postings.items()}
    greatest = []
    for text in texts:
        words = word_set(text)
        found = [lists[word] for word in words if word in lists]
        if not found:
            greatest.append(0.0)
            continue
        shared = np.bincount(np.concatenate(found), minlength=len(sizes))
        greatest.append(float((shared / (len(words) + sizes - shared)).max()))
    return np.array(greatest, np.float64)
