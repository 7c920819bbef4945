"""The four metrics as their definitions read: one query, one loop at a time."""

from __future__ import annotations

import math


def oracle(qrels: dict[str, int], results: dict[str, float]) -> dict[str, float]:
    """Metrics of one query; scores must be distinct in float32, or tied exactly."""
    by_id = sorted(results, reverse=True)
    ranking = sorted(by_id, key=lambda document: results[document], reverse=True)
    relevant = [document for document, grade in qrels.items() if grade >= 1]
    dcg = sum(max(qrels.get(d, 0), 0) / math.log2(rank + 1) for rank, d in enumerate(ranking[:10], start=1))
    best = sorted((qrels[d] for d in relevant), reverse=True)[:10]
    ideal = sum(grade / math.log2(rank + 1) for rank, grade in enumerate(best, start=1))
    first = next((rank for rank, d in enumerate(ranking[:10], start=1) if d in relevant), None)
    hits, precisions = 0, 0.0
    for rank, document in enumerate(ranking[:100], start=1):
        if document in relevant:
            hits += 1
            precisions += hits / rank
    return {
        "ndcg_at_10": dcg / ideal if ideal else 0.0,
        "mrr_at_10": 1 / first if first else 0.0,
        "recall_at_100": hits / len(relevant) if relevant else 0.0,
        "map_at_100": precisions / len(relevant) if relevant else 0.0,
    }
