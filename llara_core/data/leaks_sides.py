"""The two sides of the gate: what is evaluated on, and what is trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llara_core.data.collection import Collection

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Evaluation:
    """Queries of the split judged.

    Args:
        split: its name.
        ids: of Q queries, in the order of ``Collection.split_queries``.
        texts: of the same.
        judged: query id → all judged documents.
        relevant: document id → places of the queries that it answers (grade above 0).
    """

    split: str
    ids: Sequence[str]
    texts: Sequence[str]
    judged: Mapping[str, Mapping[str, int]]
    relevant: Mapping[str, Sequence[int]]

    @classmethod
    def of(cls, collection: Collection, split: str) -> Evaluation:
        """Read the side off a collection.

        Raises:
            DataError: the split does not exist or judges no known query.
        """
        ids, texts = collection.split_queries(split)
        judged = collection.judgements(split)
        relevant: dict[str, list[int]] = {}
        for place, query in enumerate(ids):
            for document, grade in judged[query].items():
                if grade > 0:
                    relevant.setdefault(document, []).append(place)
        return cls(split, ids, texts, judged, relevant)


@dataclass(frozen=True)
class Training:
    """Queries and positives trained on; both empty where the collection has no such split.

    Args:
        split: its name.
        known: whether the collection has it.
        ids: of the training queries.
        texts: of the same.
        positives: document id → training queries that it answers.
    """

    split: str
    known: bool
    ids: Sequence[str]
    texts: Sequence[str]
    positives: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, collection: Collection, split: str) -> Training:
        """Read the side off a collection.

        Raises:
            DataError: the split exists and judges no known query.
        """
        if split not in collection.qrels:
            return cls(split, False, [], [], {})
        ids, texts = collection.split_queries(split)
        positives: dict[str, list[str]] = {}
        for query, grades in collection.judgements(split).items():
            for document, grade in grades.items():
                if grade > 0:
                    positives.setdefault(document, []).append(query)
        return cls(split, True, ids, texts, positives)


@dataclass(frozen=True)
class Finding:
    """All leaks of one kind.

    Args:
        kind: its name, a key of ``leaks_report.KINDS``.
        queries: [F] places of the evaluation queries.
        names: [F] of the training queries, documents or rows that show them.
        likeness: [F] how much of it: a share or a similarity, in [0, 1].
        text_of: place in ``names`` → the text there, for examples.
        drop_queries: training queries to leave out.
        drop_documents: positives to leave out.
        drop_rows: rows of adaptation text to leave out.
    """

    kind: str
    queries: Rows
    names: Sequence[str]
    likeness: NDArray[np.float64]
    text_of: Callable[[int], str]
    drop_queries: frozenset[str] = frozenset()
    drop_documents: frozenset[str] = frozenset()
    drop_rows: frozenset[int] = frozenset()


def rows_of(collection: Collection, documents: Sequence[str]) -> tuple[list[str], NDArray[np.bool_]]:
    """Those documents that the corpus has, in its order, and marks of their rows [N]."""
    wanted = pc.is_in(collection.corpus["_id"], value_set=pa.array(documents, pa.string()))
    return collection.corpus["_id"].filter(wanted).to_pylist(), wanted.to_numpy()
