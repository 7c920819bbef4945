"""Systems against one another on a set of queries: means, intervals, differences and p-values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.evaluation.metrics import METRICS
from llara_core.evaluation.results import SystemResult, select
from llara_core.evaluation.significance import bootstrap_interval, paired_randomisation
from llara_core.evaluation.subsets import DESCRIPTIONS

BASELINE = "bm25"
WITHOUT_ADAPTATION = "finetuned_without_adaptation"


def contrast(
    name: str, chosen: NDArray[np.bool_], results: Sequence[SystemResult], seed: int
) -> dict[str, Any]:
    """Return one entry of ``Comparison.subsets``: every system and metric on the chosen queries.

    Args:
        name: of the subset.
        chosen: marks of its queries, [Q].
        results: the systems, all judged on the same Q queries.
        seed: of the randomisation tests and the bootstrap.

    The p-values are not adjusted for their number: the verdict rests on two that are planned (nDCG@10
    against BM25 and against no adaptation). ``side_by_side`` is for claims about more.
    """
    scores = {one.name: select(one, chosen) for one in results} if chosen.any() else {}
    return {
        "name": name,
        "description": DESCRIPTIONS.get(name, name.replace("_", " ")),
        "queries": int(chosen.sum()),
        "systems": {
            system: {
                metric: {
                    "mean": float(by_metric[metric].mean()),
                    "interval": list(bootstrap_interval(by_metric[metric], seed=seed)),
                    "versus_bm25": _versus(scores, system, BASELINE, metric, seed),
                    "versus_without_adaptation": _versus(scores, system, WITHOUT_ADAPTATION, metric, seed),
                }
                for metric in METRICS
            }
            for system, by_metric in scores.items()
        },
    }


def _versus(
    scores: Mapping[str, Mapping[str, NDArray[np.float64]]], system: str, other: str, metric: str, seed: int
) -> dict[str, float] | None:
    """Difference of means and its p-value; None for a system against itself or against an absent one."""
    if system == other or other not in scores:
        return None
    ours, theirs = scores[system][metric], scores[other][metric]
    return {
        "difference": float(ours.mean() - theirs.mean()),
        "p_value": paired_randomisation(ours, theirs, seed=seed),
    }
