"""Judging a search system on a split of a collection, as BEIR does."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llara_core.config import Bm25Settings
from llara_core.data.collection import Collection
from llara_core.errors import DataError
from llara_core.evaluation.metrics import METRICS, PADDING, PerQuery, Qrels, evaluate_rows, trec_order
from llara_core.evaluation.results import SystemResult
from llara_core.retrieval.bm25 import Bm25
from llara_core.retrieval.exact import search
from llara_core.retrieval.vectors import Encoder, corpus_vectors

logger = logging.getLogger(__name__)

IDENTICAL_IDS = ("unless_judged", "drop", "keep")  # what becomes of a result that has the query's own id
_BEIR_KS = (1, 3, 5, 10, 100, 1000)  # cut-offs that BEIR reports
_LARGE = 4_000_000_000  # bytes of vectors in memory that deserve a warning
_BEIR_METRICS = ("ndcg", "map", "recall", "precision", "mrr", "r_cap", "hole")


def beir_metrics(depth: int) -> tuple[str, ...]:
    """Names of all metrics that BEIR reports at 1, 3, 5, 10, 100 and 1000, as deep as is searched.

    The four of ``METRICS`` come first.
    """
    names = [f"{metric}_at_{k}" for metric in _BEIR_METRICS for k in _BEIR_KS if k <= depth]
    return (*METRICS, *(name for name in names if name not in METRICS))


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
        cache: folder of kept indexes, which may be that of the vectors; None: no cache.
    """

    def __init__(
        self,
        collection: Collection,
        settings: Bm25Settings | None = None,
        name: str = "bm25",
        cache: Path | None = None,
    ) -> None:
        self.name = name
        self._bm25 = Bm25.cached(collection.passages, settings, cache)

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
        cache: folder of the cached vectors, shared with mining; None: no cache, and all in memory.
        dtype: of the vectors that are kept; float16 halves them.
    """

    def __init__(
        self,
        name: str,
        encoder: Encoder,
        collection: Collection,
        cache: Path | None = None,
        *,
        dtype: Literal["float32", "float16"] = "float32",
    ) -> None:
        self.name = name
        self._encoder = encoder
        size = 4 * encoder.dimension * collection.corpus.num_rows
        if cache is None and size > _LARGE:
            logger.warning(
                "the vectors of %d passages will take %.0f GB of memory; a cache keeps them on disk instead "
                "(llara evaluate --cache FOLDER)",
                collection.corpus.num_rows,
                size / 1e9,
            )
        self._vectors = corpus_vectors(encoder, collection.passages, cache, dtype=dtype)

    def search(self, queries: Sequence[str], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores (inner products) and rows [Q, min(k, N)]."""
        return search(self._encoder.encode_queries(list(queries)), self._vectors, k)


def evaluate_system(
    collection: Collection,
    split: str,
    system: System,
    depth: int = 100,
    *,
    metrics: Sequence[str] = METRICS,
    protocol: Mapping[str, Any] | None = None,
) -> SystemResult:
    """Return how well a system answers the queries of a split.

    1. Every judged query is searched, one result deeper than asked.
    2. What has the query's own id is dropped or not, as the protocol says (in ArguAna queries are
       documents of the corpus).
    3. The first `depth` are scored. Judged documents that the corpus lacks count as missed.

    Beyond the collection and what the system holds, memory grows with queries times depth, not with the
    corpus: only ids of documents found are ever Python strings.

    Args:
        collection: corpus, queries and judgements.
        split: name of the qrels.
        system: anything with a name and ``search``.
        depth: results per query, at least the greatest K of the metrics.
        metrics: names as ``evaluate_rows`` knows them; ``beir_metrics`` lists BEIR's.
        protocol: ``identical_ids``: ``drop`` as BEIR's ignore_identical_ids does, ``keep``, or
            ``unless_judged`` (the default): dropped unless the split judges that very pair;
            ``relevance_cut``: least grade that counts as relevant in all metrics but nDCG, which takes
            grades as they are (trec_eval's -l; default 1). Other keys are recorded as they are.

    Returns:
        The result; its ``protocol`` holds split, depth and all that was given.

    Raises:
        DataError: the split does not exist or judges no known query.
        ValueError: a metric reaches deeper than `depth`, or the protocol says something unknown.

    Source: BEIR (Thakur et al. 2021) and its package's EvaluateRetrieval.
    """
    _check_depth(depth, metrics)
    rules = {"identical_ids": "unless_judged", "relevance_cut": 1, **(protocol or {})}
    if rules["identical_ids"] not in IDENTICAL_IDS:
        raise ValueError(
            f"protocol: identical_ids must be {', '.join(IDENTICAL_IDS)}; got {rules['identical_ids']!r}"
        )
    if not collection.corpus.num_rows:
        raise DataError(f"collection {collection.name!r} has no document to search", rule="corpus_not_empty")
    query_ids, texts = collection.split_queries(split)
    qrels = collection.judgements(split)
    unanswered = len(qrels) - len(query_ids)
    if unanswered:
        logger.warning("split %r judges %d queries that the queries file lacks; left out", split, unanswered)
    scores, rows = system.search(texts, depth + 1)
    ids, rows = _ids_of_found(collection, rows)
    rows = _without_self(rows, query_ids, ids, qrels, rules["identical_ids"])
    rows, scores = trec_order(ids, rows, scores)
    rows, scores = rows[:, :depth], scores[:, :depth]
    counts = (rows != PADDING).sum(axis=1)  # padding stands last
    return SystemResult(
        name=system.name,
        collection=collection.name,
        split=split,
        documents=collection.corpus.num_rows,
        query_ids=query_ids,
        per_query=_evaluate(qrels, query_ids, ids, (rows, scores), metrics, int(rules["relevance_cut"])),
        found=[[ids[row] for row in line[:count]] for line, count in zip(rows, counts, strict=True)],
        scores=[line[:count].copy() for line, count in zip(scores, counts, strict=True)],
        protocol={"split": split, "depth": depth, **rules},
    )


def _check_depth(depth: int, metrics: Sequence[str]) -> None:
    for metric in metrics:
        cut = metric.rpartition("_at_")[2]
        if cut.isdecimal() and int(cut) > depth:  # a malformed name is for evaluate_rows to refuse
            raise ValueError(f"depth must be at least {cut} for {metric}, got {depth}")


def _evaluate(
    qrels: Qrels,
    query_ids: Sequence[str],
    ids: Sequence[str],
    found: tuple[NDArray[np.int64], NDArray[np.float32]],
    metrics: Sequence[str],
    cut: int,
) -> PerQuery:
    """Each metric per query; below the cut a judgement counts as 0, except for nDCG's gains."""
    if cut <= 1:
        return evaluate_rows(qrels, query_ids, ids, *found, metrics=metrics)
    counted = {
        query: {document: grade if grade >= cut else 0 for document, grade in judged.items()}
        for query, judged in qrels.items()
    }
    graded = [metric for metric in metrics if metric.startswith("ndcg_")]
    binary = [metric for metric in metrics if not metric.startswith("ndcg_")]
    values = evaluate_rows(counted, query_ids, ids, *found, metrics=binary) if binary else {}
    if graded:
        values |= evaluate_rows(qrels, query_ids, ids, *found, metrics=graded)
    return {metric: values[metric] for metric in metrics}


def _ids_of_found(collection: Collection, rows: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64]]:
    """Ids of the documents found by anybody [U], and the rows [Q, K] as places among them."""
    chosen, places = np.unique(rows, return_inverse=True)
    places = places.reshape(rows.shape)
    if len(chosen) and chosen[0] == PADDING:
        chosen, places = chosen[1:], places - 1  # PADDING sorts first and stays -1
    ids: list[str] = collection.corpus["_id"].take(pa.array(chosen)).to_pylist()
    return ids, places.astype(np.int64)


def _without_self(
    rows: NDArray[np.int64],
    query_ids: Sequence[str],
    ids: Sequence[str],
    qrels: Qrels,
    policy: str,
) -> NDArray[np.int64]:
    """Rows [Q, K] with ``PADDING`` where a query found itself and may not."""
    if policy == "keep":
        return rows
    row_of = {document: row for row, document in enumerate(ids)}
    judged = policy == "unless_judged"
    own = np.array(
        [
            PADDING if judged and query in qrels.get(query, {}) else row_of.get(query, PADDING)
            for query in query_ids
        ],
        np.int64,
    )
    return np.where(rows == own[:, None], PADDING, rows)
