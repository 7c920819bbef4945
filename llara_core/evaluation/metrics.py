"""nDCG@10, MRR@10, recall@100 and MAP@100 per query, equal to trec_eval's, over whole arrays at once.

Names of axes: Q queries, K results per query, N documents, J judgements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

METRICS = ("ndcg_at_10", "mrr_at_10", "recall_at_100", "map_at_100")
PADDING = -1  # row of a place that holds no document
_SHALLOW, _DEEP = 10, 100  # cut-offs of the metrics' names

Qrels = Mapping[str, Mapping[str, int]]
PerQuery = dict[str, NDArray[np.float64]]


def evaluate_run(qrels: Qrels, run: Mapping[str, Mapping[str, float]]) -> PerQuery:
    """Return each metric for every judged query, in the order of ``qrels``.

    Args:
        qrels: query id to {document id: grade}; a grade of 1 or more is relevant, the grade is the gain.
        run: query id to {document id: score}; a judged query that is absent or empty counts as 0,
            a query that is not judged is left out.

    Returns:
        Metric name to values in [0, 1], shape [Q], float64. A query without a relevant document has 0.

    Source: trec_eval's ndcg_cut_10, recip_rank over the first 10, recall_100 and map_cut_100. Ties go
    to the greater document id as a string; scores are compared as float32, as trec_eval holds them.
    """
    query_ids = list(qrels)
    found = [run.get(query, {}) for query in query_ids]
    corpus_ids = sorted({document for results in found for document in results})
    row_of = {document: row for row, document in enumerate(corpus_ids)}
    width = max((len(results) for results in found), default=0)
    rows = np.full((len(query_ids), width), PADDING, np.int64)
    scores = np.zeros((len(query_ids), width), np.float32)
    for place, results in enumerate(found):
        rows[place, : len(results)] = [row_of[document] for document in results]
        scores[place, : len(results)] = list(results.values())
    return evaluate_rows(qrels, query_ids, corpus_ids, rows, scores)


def evaluate_rows(
    qrels: Qrels,
    query_ids: Sequence[str],
    corpus_ids: Sequence[str],
    rows: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> PerQuery:
    """Return each metric for every query of an index's answer.

    Args:
        qrels: query id to {document id: grade}; judged documents that the corpus lacks count as missed.
        query_ids: Q ids; one that ``qrels`` lacks has 0 everywhere.
        corpus_ids: N ids.
        rows: corpus rows found, [Q, K], each at most once per query; ``PADDING`` where there are fewer.
        scores: their scores, [Q, K]; the order of the columns does not matter.

    Returns:
        Metric name to values in [0, 1], shape [Q], float64.
    """
    rows, _ = trec_order(corpus_ids, rows, scores)
    gains_QK = grades_of(qrels, query_ids, corpus_ids, rows[:, :_DEEP], missing=0).clip(min=0)
    positives = [sorted((g for g in qrels.get(q, {}).values() if g > 0), reverse=True) for q in query_ids]
    ideal_QK = np.zeros((len(query_ids), _SHALLOW), np.int64)
    for place, grades in enumerate(positives):
        ideal_QK[place, : len(grades)] = grades[:_SHALLOW]
    relevant_Q = np.maximum(np.array([len(grades) for grades in positives], np.float64), 1.0)

    hits_QK = gains_QK > 0
    ranks_K = np.arange(1, hits_QK.shape[1] + 1)
    precision_QK = np.cumsum(hits_QK, axis=1) / ranks_K
    ideal_Q = _dcg(ideal_QK)
    return {
        "ndcg_at_10": _dcg(gains_QK[:, :_SHALLOW]) / np.where(ideal_Q > 0, ideal_Q, 1.0),
        "mrr_at_10": (hits_QK / ranks_K)[:, :_SHALLOW].max(axis=1, initial=0.0),
        "recall_at_100": hits_QK.sum(axis=1) / relevant_Q,
        "map_at_100": (precision_QK * hits_QK).sum(axis=1) / relevant_Q,
    }


def means(per_query: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """Return the mean of each metric over queries; 0 where there is no query."""
    return {metric: float(values.mean()) if len(values) else 0.0 for metric, values in per_query.items()}


def trec_order(
    corpus_ids: Sequence[str], rows: NDArray[np.int64], scores: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return rows and scores [Q, K] in trec_eval's order: score, then document id, both descending.

    Padding goes last.
    """
    as_held = scores.astype(np.float32)
    rank_of_id = np.empty(len(corpus_ids) + 1, np.int64)
    rank_of_id[sorted(range(len(corpus_ids)), key=corpus_ids.__getitem__)] = np.arange(len(corpus_ids))
    rank_of_id[PADDING] = PADDING
    order = np.lexsort((-rank_of_id[rows], -as_held, rows == PADDING), axis=1)
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(as_held, order, axis=1)


def grades_of(
    qrels: Qrels,
    query_ids: Sequence[str],
    corpus_ids: Sequence[str],
    rows: NDArray[np.int64],
    missing: int = 0,
) -> NDArray[np.int64]:
    """Return the grade of each found document, [Q, K]; ``missing`` for unjudged documents and padding."""
    row_of = {document: row for row, document in enumerate(corpus_ids)}
    size = len(corpus_ids)
    judged = [
        (place * size + row_of[document], grade)
        for place, query in enumerate(query_ids)
        for document, grade in qrels.get(query, {}).items()
        if document in row_of
    ]
    if not judged or not rows.size:
        return np.full(rows.shape, missing, np.int64)
    keys_J, grades_J = np.array(sorted(judged), np.int64).T
    # One sorted key per judgement turns a dictionary lookup per result into one binary search of all.
    wanted_QK = np.arange(len(query_ids))[:, None] * size + rows
    at_QK = np.searchsorted(keys_J, wanted_QK).clip(max=len(keys_J) - 1)
    known_QK = (keys_J[at_QK] == wanted_QK) & (rows != PADDING)
    return np.where(known_QK, grades_J[at_QK], missing)


def _dcg(gains_QK: NDArray[np.int64]) -> NDArray[np.float64]:
    """Discounted cumulative gain per query: linear gain over log2(rank + 1)."""
    discounts_K = np.log2(np.arange(2, gains_QK.shape[1] + 2))
    total: NDArray[np.float64] = (gains_QK / discounts_K).sum(axis=1)
    return total
