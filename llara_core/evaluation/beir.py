"""Judging a search system on a split of a collection, as BEIR does."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llara_core.config import Bm25Settings
from llara_core.data.collection import Collection
from llara_core.errors import DataError
from llara_core.evaluation.metrics import PADDING, Qrels, evaluate_rows, trec_order
from llara_core.evaluation.results import SystemResult
from llara_core.retrieval.bm25 import Bm25
from llara_core.retrieval.exact import search
from llara_core.retrieval.vectors import Encoder, corpus_vectors

logger = logging.getLogger(__name__)


class System(Protocol):
    """Anything that searches the corpus of a collection."""

    @property
    def name(self) -> str:
        """The system's name in tables and metric keys."""
        ...

    def search(self, queries: Sequence[str], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and corpus rows [Q, ≤ k], best first; row ``PADDING`` where nothing was found."""
        ...


class Bm25System:
    """BM25 over a collection; passages that share no term with the query are not found.

    Args:
        collection: what is searched.
        settings: BM25's weights and terms.
        name: name in tables.
    """

    def __init__(
        self, collection: Collection, settings: Bm25Settings | None = None, name: str = "bm25"
    ) -> None:
        self.name = name
        self._bm25 = Bm25(settings).index(collection.passages)

    def search(self, queries: Sequence[str], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and rows [Q, min(k, N)]; places without a match hold ``PADDING``."""
        scores, rows = self._bm25.search(queries, k)
        return scores, np.where(scores > 0, rows, PADDING)


class DenseSystem:
    """Exact search among the vectors of a model.

    Args:
        name: name in tables.
        encoder: the model, e.g. a ``Retriever``.
        collection: what is searched; its vectors are taken from the cache or encoded now.
        cache: folder of the cached vectors, shared with mining; None: no cache.
    """

    def __init__(
        self, name: str, encoder: Encoder, collection: Collection, cache: Path | None = None
    ) -> None:
        self.name = name
        self._encoder = encoder
        self._vectors = corpus_vectors(encoder, collection.passages, cache)

    def search(self, queries: Sequence[str], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores (inner products) and rows [Q, min(k, N)]."""
        return search(self._encoder.encode_queries(list(queries)), self._vectors, k)


def evaluate_system(collection: Collection, split: str, system: System, depth: int = 100) -> SystemResult:
    """Return how well a system answers the queries of a split.

    1. Every judged query is searched, one result deeper than asked.
    2. A result whose document id is the query's own id is dropped (in ArguAna queries are documents of
       the corpus), unless the split judges that very pair.
    3. The first `depth` are scored. Judged documents that the corpus lacks count as missed.

    Args:
        collection: corpus, queries and judgements.
        split: name of the qrels.
        system: anything with a name and ``search``.
        depth: results per query, at least 100, since recall and MAP reach that far.

    Raises:
        DataError: the split does not exist or judges no known query.
        ValueError: depth below 100.

    Source: BEIR's protocol (``ignore_identical_ids``), but for the exception in 2.
    """
    if depth < 100:
        raise ValueError(f"depth must be at least 100 for recall@100 and MAP@100, got {depth}")
    if not collection.corpus.num_rows:
        raise DataError(f"collection {collection.name!r} has no document to search", rule="corpus_not_empty")
    query_ids, texts = collection.split_queries(split)
    qrels = collection.judgements(split)
    unanswered = len(qrels) - len(query_ids)
    if unanswered:
        logger.warning("split %r judges %d queries that the queries file lacks; left out", split, unanswered)
    scores, rows = system.search(texts, depth + 1)
    rows = _without_self(rows, query_ids, collection.corpus_ids, qrels)
    rows, scores = trec_order(collection.corpus_ids, rows, scores)
    rows, scores = rows[:, :depth], scores[:, :depth]
    return SystemResult(
        name=system.name,
        collection=collection.name,
        split=split,
        documents=collection.corpus.num_rows,
        query_ids=query_ids,
        per_query=evaluate_rows(qrels, query_ids, collection.corpus_ids, rows, scores),
        found=[[collection.corpus_ids[row] for row in found if row != PADDING] for found in rows],
        scores=[
            [float(score) for score, row in zip(line, found, strict=True) if row != PADDING]
            for line, found in zip(scores, rows, strict=True)
        ],
    )


def _without_self(
    rows: NDArray[np.int64], query_ids: Sequence[str], corpus_ids: Sequence[str], qrels: Qrels
) -> NDArray[np.int64]:
    """Rows [Q, K] with ``PADDING`` where a query found itself."""
    row_of = {document: row for row, document in enumerate(corpus_ids)}
    own = np.array(
        [row_of.get(query, PADDING) if query not in qrels.get(query, {}) else PADDING for query in query_ids],
        np.int64,
    )
    return np.where(rows == own[:, None], PADDING, rows)
