"""Finished cells of `adaptation_gain.py` → means, spread, p-values, and what may be claimed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gain_cells import NONE, Study, finished
from numpy.typing import NDArray

from llara_core.errors import DataError
from llara_core.evaluation.report_text import SIGNIFICANT
from llara_core.evaluation.significance import holm, paired_randomisation

STAGES = {"zero_shot": "adapted, no label seen", "finetuned": "fine-tuned"}
# Differences that look into why: does the second term add to the first, and which text, which target?
CONTRASTS = (
    ("both", "ebae", "EBAR added to EBAE"),
    ("both", "ebar", "EBAE added to EBAR"),
    ("around", "both", "target around the span, not after it"),
    ("wikipedia", "both", "Wikipedia instead of the own corpus"),
    ("mixed", "both", "half Wikipedia instead of the own corpus"),
)
Scores = NDArray[np.float64]


def summarise(study: Study, arms: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Everything the tables say about one collection, as plain values.

    Raises:
        DataError: a cell is missing, or was made from other text than the rest.
    """
    facts, cells = _records(study, arms, seeds)
    count = len(facts["query_ids"])
    subsets = {"all": np.ones(count, np.bool_)}
    for name, marks in facts["subsets"].items():
        if 0 < sum(marks) < count:
            subsets[name] = np.array(marks, np.bool_)
    scores = {
        arm: {stage: np.array([cells[arm, seed]["scores"][stage] for seed in seeds]) for stage in STAGES}
        for arm in arms
    }  # each [seeds, queries]
    judged = {
        name: _subset(marks, scores, np.array(facts["bm25"], np.float64)) for name, marks in subsets.items()
    }
    settings = study.settings
    return {
        "collection": study.name,
        "content_hash": facts["content_hash"],
        "documents": facts["documents"],
        "training_pairs": facts["training_pairs"],
        "own_rows": facts["own_rows"],
        "seeds": list(seeds),
        "pretraining": study.pretraining,
        "settings": settings.model_dump(mode="json", include={"model", "adapt", "finetune"}),
        "subsets": judged,
        "claims": {stage: _claims(judged, stage, arms) for stage in STAGES},
        "cosine": {
            arm: {
                stage: statistics.fmean(cells[arm, seed]["cosine"][stage] for seed in seeds)
                for stage in STAGES
            }
            for arm in arms
        },
        "minutes": sum(sum(one["seconds"].values()) for one in cells.values()) / 60,
        "environments": _environments(list(cells.values())),
    }


def _records(
    study: Study, arms: Sequence[str], seeds: Sequence[int]
) -> tuple[dict[str, Any], dict[tuple[str, int], dict[str, Any]]]:
    if NONE not in arms:
        raise DataError(f"every arm is compared with {NONE!r}; add it to --arms")
    facts = finished(study.facts_file())
    if facts is None:
        raise DataError(
            f"{study.name}: nothing is finished; run without --table-only", file=study.facts_file()
        )
    cells = {}
    for arm in arms:
        for seed in seeds:
            record = finished(study.cell_file(arm, seed))
            if record is None:
                message = f"{study.name}: arm {arm}, seed {seed} is not finished; run without --table-only"
                raise DataError(message, file=study.cell_file(arm, seed))
            if (record["content_hash"], record["query_ids"]) != (facts["content_hash"], facts["query_ids"]):
                message = f"{study.name}: made from other text than the rest; remove it and run again"
                raise DataError(message, file=study.cell_file(arm, seed))
            cells[arm, seed] = record
    return facts, cells


def _subset(
    marks: NDArray[np.bool_], scores: Mapping[str, Mapping[str, Scores]], bm25: Scores
) -> dict[str, Any]:
    """Means, spread over seeds and differences of every arm and stage on the chosen queries."""
    result: dict[str, Any] = {"queries": int(marks.sum()), "bm25": float(bm25[marks].mean()), "stages": {}}
    for stage in STAGES:
        chosen = {arm: by_stage[stage][:, marks] for arm, by_stage in scores.items()}
        result["stages"][stage] = {
            "arms": {arm: _cell(values, chosen[NONE], bm25[marks]) for arm, values in chosen.items()},
            "contrasts": {
                f"{first} - {second}": _difference(chosen[first], chosen[second])
                for first, second, _ in CONTRASTS
                if first in chosen and second in chosen
            },
        }
        adjusted = holm(
            {
                arm: one["versus_none"]["p_value"]
                for arm, one in result["stages"][stage]["arms"].items()
                if arm != NONE
            }
        )
        for arm, value in adjusted.items():
            result["stages"][stage]["arms"][arm]["versus_none"]["p_adjusted"] = value
    return result


def _cell(values: Scores, without: Scores, bm25: Scores) -> dict[str, Any]:
    means = values.mean(axis=1)
    return {
        "mean": float(means.mean()),
        "spread": float(means.std(ddof=1)) if len(means) > 1 else 0.0,
        "by_seed": means.tolist(),
        "versus_none": _difference(values, without),
        "versus_bm25": _difference(values, np.broadcast_to(bm25, values.shape)),
    }


def _difference(first: Scores, second: Scores) -> dict[str, Any]:
    """Two systems on the same queries; the test is paired by query, on scores averaged over seeds."""
    ours, theirs = first.mean(axis=0), second.mean(axis=0)
    return {
        "difference": float(ours.mean() - theirs.mean()),
        "p_value": paired_randomisation(ours, theirs),
        "better_seeds": int((first.mean(axis=1) > second.mean(axis=1)).sum()),
    }


def _claims(judged: Mapping[str, Any], stage: str, arms: Sequence[str]) -> dict[str, str]:
    """``gain``, ``loss`` or ``undecided`` of every arm: decided only where every leak-free subset agrees.

    Where no query leaks, the whole split is the leak-free subset.
    """
    leak_free = [one for name, one in judged.items() if name != "all"] or [judged["all"]]
    found = {}
    for arm in arms:
        if arm == NONE:
            continue
        ones = [subset["stages"][stage]["arms"][arm]["versus_none"] for subset in leak_free]
        certain = all(one["p_adjusted"] < SIGNIFICANT for one in ones)
        signs = {one["difference"] > 0 for one in ones}
        found[arm] = "undecided" if not certain or len(signs) > 1 else "gain" if signs == {True} else "loss"
    return found


def _environments(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for every kind of surroundings the cells were made in."""
    lines = set()
    for one in cells:
        made = one["environment"]
        git = made["git"] or {"commit": "unknown", "dirty": None}
        version = made["packages"].get("torch", "?")
        lines.add(f"commit {git['commit'][:10]}{' with changes' if git['dirty'] else ''}, torch {version}")
    return sorted(lines)
