"""The metrics as their definitions read: one query, one loop at a time."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

METRICS = ("ndcg_at_10", "mrr_at_10", "recall_at_100", "map_at_100")


def oracle(
    qrels: dict[str, int],
    results: dict[str, float],
    metrics: Sequence[str] = METRICS,
    judged_by_any: Collection[str] = (),
) -> dict[str, float]:
    """Metrics of one query; scores must be distinct in float32, or tied exactly."""
    by_id = sorted(results, reverse=True)
    ranking = sorted(by_id, key=lambda document: results[document], reverse=True)
    relevant = [document for document, grade in qrels.items() if grade >= 1]
    values = {}
    for metric in metrics:
        kind, k = metric.rsplit("_at_", 1)
        values[metric] = _value(kind, int(k), ranking[: int(k)], qrels, relevant, judged_by_any)
    return values


def _value(kind, k, first, qrels, relevant, judged_by_any):
    if kind == "hole":
        return sum(document not in judged_by_any for document in first) / k
    if not relevant:
        return 0.0
    hits = [rank for rank, document in enumerate(first, start=1) if document in relevant]
    best = sorted((qrels[d] for d in relevant), reverse=True)[:k]
    dcg = sum(max(qrels.get(d, 0), 0) / math.log2(rank + 1) for rank, d in enumerate(first, start=1))
    return {
        "ndcg": dcg / sum(grade / math.log2(rank + 1) for rank, grade in enumerate(best, start=1)),
        "mrr": 1 / hits[0] if hits else 0.0,
        "recall": len(hits) / len(relevant),
        "precision": len(hits) / k,
        "r_cap": len(hits) / min(k, len(relevant)),
        "map": sum(number / rank for number, rank in enumerate(hits, start=1)) / len(relevant),
    }[kind]
