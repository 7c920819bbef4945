"""Results of systems written out in a test: scores per query, and what each system found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llara_core.evaluation.results import SystemResult

PROTOCOL = {"split": "test", "depth": 100, "identical_ids": "keep", "relevance_cut": 1}


def result(
    name: str,
    scores: Sequence[float],
    collection: str = "tiny",
    found: Sequence[Sequence[str]] | None = None,
    *,
    metrics: Mapping[str, Sequence[float]] | None = None,
    protocol: Mapping[str, Any] = PROTOCOL,
    **changes: Any,
) -> SystemResult:
    """A result on queries q0, q1, …; by default every query found d<its number> with score 1."""
    count = len(scores)
    found = [[f"d{place}"] for place in range(count)] if found is None else found
    facts: dict[str, Any] = {
        "name": name,
        "collection": collection,
        "split": "test",
        "documents": 100,
        "query_ids": [f"q{place}" for place in range(count)],
        "per_query": {
            metric: np.asarray(values, np.float64)
            for metric, values in {"ndcg_at_10": scores, **(metrics or {})}.items()
        },
        "found": found,
        "scores": [[1.0 - rank / 10 for rank in range(len(ids))] for ids in found],
        "protocol": dict(protocol),
    }
    return SystemResult(**facts | changes)
