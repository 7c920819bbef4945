"""Retrieval metrics per query, equal to trec_eval's and BEIR's, over whole arrays at once.

| name | is |
|---|---|
| ``ndcg_at_K`` | trec_eval's ndcg_cut_K: the grade is the gain, log2(rank + 1) the discount |
| ``mrr_at_K`` | trec_eval's recip_rank over the first K results |
| ``recall_at_K``, ``precision_at_K``, ``map_at_K`` | trec_eval's recall_K, P_K and map_cut_K |
| ``r_cap_at_K`` | BEIR's capped recall: relevant results among the first K over min(K, relevant documents) |
| ``hole_at_K`` | BEIR's hole: results among the first K that no query of the qrels judges, over K |

A document judged for another query is therefore no hole. Where BEIR's own functions break ties by the order
of a dictionary, these take trec_eval's order for all metrics.

Names of axes: Q queries, K results per query, N documents, J judgements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from llara_core.evaluation.metric_order import PADDING, trec_order
from llara_core.evaluation.metric_runs import from_dictionaries, from_rows, grade
from llara_core.evaluation.metric_values import parse, values_of

__all__ = [
    "METRICS", "PADDING", "PerQuery", "Qrels", "evaluate_rows", "evaluate_run", "grades_of", "means",
    "trec_order",
]  # fmt: skip

METRICS = ("ndcg_at_10", "mrr_at_10", "recall_at_100", "map_at_100")
_BLOCK = 1 << 20  # results looked at together: their keys and copies take some 40 MiB

Qrels = Mapping[str, Mapping[str, int]]
PerQuery = dict[str, NDArray[np.float64]]


def evaluate_run(
    qrels: Qrels, run: Mapping[str, Mapping[str, float]], metrics: Sequence[str] = METRICS
) -> PerQuery:
    """Return each metric for every judged query, in the order of ``qrels``.

    Args:
        qrels: query id to {document id: grade}; a grade of 1 or more is relevant, the grade is the gain.
            Grades below 1 count as judged and irrelevant.
        run: query id to {document id: score}; a judged query that is absent or empty counts as 0
            (pytrec_eval leaves it out, which raises a mean), a query that is not judged is left out.
        metrics: names as in the table above, for any K.

    Returns:
        Metric name to values in [0, 1], shape [Q], float64. A query without a relevant document has 0
        in all but ``hole_at_K``.

    Raises:
        ValueError: a metric's name is none of the known forms.

    Source: trec_eval and BEIR's custom metrics. Ties go to the greater document id as a string; scores
    are compared as float32, as trec_eval holds them.
    """
    parsed = parse(metrics)
    query_ids = list(qrels)
    found = [run.get(query, {}) for query in query_ids]
    annotated, blocks = _annotated(qrels), []
    for block in _blocks(len(query_ids), max(map(len, found), default=0)):
        judged = [qrels[query] for query in query_ids[block]]
        answers = from_dictionaries(found[block], judged)
        graded = grade(answers, judged, *_depths(parsed), annotated)
        blocks.append(values_of(graded, parsed))
    return _joined(blocks, metrics)


def evaluate_rows(
    qrels: Qrels,
    query_ids: Sequence[str],
    corpus_ids: Sequence[str],
    rows: NDArray[np.int64],
    scores: NDArray[np.float32],
    metrics: Sequence[str] = METRICS,
) -> PerQuery:
    """Return each metric for every query of an index's answer.

    Args:
        qrels: query id to {document id: grade}; judged documents that the corpus lacks count as missed.
        query_ids: Q ids; one that ``qrels`` lacks has 0 in all but ``hole_at_K``.
        corpus_ids: N ids.
        rows: corpus rows found, [Q, K], each at most once per query; ``PADDING`` where there are fewer.
        scores: their scores, [Q, K]; the order of the columns does not matter.
        metrics: names as for ``evaluate_run``.

    Returns:
        Metric name to values in [0, 1], shape [Q], float64.

    Raises:
        ValueError: a metric's name is none of the known forms.
    """
    parsed = parse(metrics)
    row_of = _rows_of_judged(qrels, corpus_ids)
    annotated, blocks = _annotated(qrels), []
    for block in _blocks(len(query_ids), rows.shape[1]):
        judged = [qrels.get(query, {}) for query in query_ids[block]]
        answers = from_rows(rows[block], scores[block], corpus_ids, judged, row_of)
        graded = grade(answers, judged, *_depths(parsed), annotated)
        blocks.append(values_of(graded, parsed))
    return _joined(blocks, metrics)


def means(per_query: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """Return the mean of each metric over queries; 0 where there is no query."""
    return {metric: float(values.mean()) if len(values) else 0.0 for metric, values in per_query.items()}


def grades_of(
    qrels: Qrels,
    query_ids: Sequence[str],
    corpus_ids: Sequence[str],
    rows: NDArray[np.int64],
    missing: int = 0,
) -> NDArray[np.int64]:
    """Return the grade of each found document, [Q, K]; ``missing`` for unjudged documents and padding."""
    row_of, size = _rows_of_judged(qrels, corpus_ids), len(corpus_ids)
    judged = [
        (place * size + row_of[document], value)
        for place, query in enumerate(query_ids)
        for document, value in qrels.get(query, {}).items()
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


def _annotated(qrels: Qrels) -> frozenset[str]:
    """Ids of all judged documents, whatever their grade."""
    return frozenset(chain.from_iterable(qrels.values()))


def _rows_of_judged(qrels: Qrels, corpus_ids: Sequence[str]) -> dict[str, int]:
    """Row of each judged document that the corpus has; the millions of others need no entry."""
    judged = _annotated(qrels)
    return {document: row for row, document in enumerate(corpus_ids) if document in judged}


def _blocks(queries: int, width: int) -> Iterator[slice]:
    step = max(1, _BLOCK // max(1, width))
    return (slice(start, min(start + step, queries)) for start in range(0, queries, step))


def _depths(parsed: Sequence[tuple[str, str, int]]) -> tuple[int, int]:
    """Ranks that any metric reads, and ranks that holes are looked for in."""
    holes = [k for _, kind, k in parsed if kind == "hole"]
    return max((k for _, _, k in parsed), default=0), max(holes, default=0)


def _joined(blocks: Sequence[PerQuery], metrics: Sequence[str]) -> PerQuery:
    empty = np.zeros(0, np.float64)
    return {name: np.concatenate([empty, *(block[name] for block in blocks)]) for name in metrics}
