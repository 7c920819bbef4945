"""A result in the shape of MTEB's files, so that MTEB's own tools read it (``mteb.TaskResult.from_disk``)."""

from __future__ import annotations

from typing import Any

from llara_core.evaluation.results import SystemResult

FILE = "mteb.json"
_KNOWN = ("ndcg_at_", "map_at_", "recall_at_", "precision_at_", "mrr_at_")  # MTEB's names, which are ours
MAIN = "ndcg_at_10"


def mteb_json(
    result: SystemResult, *, seconds: float | None = None, language: str = "eng-Latn"
) -> dict[str, Any]:
    """Return a result as MTEB writes it.

    Args:
        result: with nDCG@10 among its metrics.
        seconds: what judging took.
        language: of the collection, as MTEB writes it.

    Returns:
        JSON-able. ``task_name`` is MTEB's for BEIR's sets, the collection's name otherwise;
        ``dataset_revision`` is the fingerprint of the data; ``mteb_version`` is None, since MTEB took no
        part; self-match policy and the like stand under ``protocol`` beside the scores.

    Raises:
        ValueError: nDCG@10 was not computed.

    Source: TaskResult of mteb 2.26.
    """
    means = result.means
    if MAIN not in means:
        raise ValueError(f"MTEB's main score is {MAIN}, and the result has only {', '.join(means)}")
    scores = {
        **{metric: value for metric, value in means.items() if metric.startswith(_KNOWN)},
        "main_score": means[MAIN],
        "hf_subset": "default",
        "languages": [language],
        "protocol": dict(result.protocol),
    }
    return {
        "task_name": str(result.protocol.get("mteb_task") or result.collection),
        "dataset_revision": str(result.protocol.get("data", "unknown")),
        "mteb_version": None,
        "scores": {result.split: [scores]},
        "evaluation_time": seconds,
        "kg_co2_emissions": None,
        "date": None,
    }
