"""Side by side: all systems on all collections, on one page with intervals and tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from zenml import log_metadata, step

from llara_core.data.collection import Collection
from llara_core.evaluation.beir_places import Place
from llara_core.evaluation.beir_runs import Outcome
from llara_core.evaluation.beir_table import table_record
from llara_core.evaluation.metrics import METRICS
from llara_core.evaluation.results import SystemResult
from llara_core.evaluation.side_by_side import compare_systems
from llara_core.evaluation.side_by_side_page import write_page
from steps.caching import policy
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.recorded import failure_of
from steps.stored.collection import open_collection
from steps.stored.result import open_result
from steps.stored.side_by_side import PAGE, RECORD, SUMMARY
from steps.stored.subsets import open_subsets
from steps.workspace import new_folder

Outcomes = dict[str, dict[str, Outcome]]  # system → collection → what judging came to


@step(
    cache_policy=policy(__file__, "llara_core/evaluation/templates"), output_materializers=FolderMaterializer
)
def side_by_side(
    collections: list[FolderArtifact],
    results: list[FolderArtifact],
    groups: dict[str, str],
    metric: str,
    seed: int,
) -> Annotated[FolderArtifact, "side_by_side"]:
    """``summary.json`` with every score and failure and, where two systems can be compared, the page.

    The page takes in the collections that every system was judged on; the others stand in the summary.

    Args:
        collections: what ``admit`` gave.
        results: what ``judge_system`` gave, collection by collection, the systems in the same order.
        groups: collection to the set whose average it goes into (CQADupStack's forums), or "".
        metric: what the systems are compared by.
        seed: of intervals and tests.
    """
    outcomes = _outcomes(results, groups)
    judged = _by_collection(outcomes)
    whole = {name: systems for name, systems in judged.items() if len(systems) == len(outcomes) > 1}
    # A collection that cannot be used fails every system alike, and is told once.
    failures = list(dict.fromkeys(found for one in results if (found := failure_of(one)) is not None))
    subsets = {str(one.facts["name"]): open_subsets(one) for one in collections if failure_of(one) is None}
    folder = new_folder("side_by_side")
    folder.mkdir(parents=True)
    summary: dict[str, Any] = {
        "metric": metric,
        "systems": list(outcomes),
        "collections": {name: _scores(systems, subsets.get(name, {})) for name, systems in judged.items()},
        "tables": [table_record(name, list(one.values()), seed=seed) for name, one in outcomes.items()],
        "compared": list(whole),
        "failures": failures,
    }
    if whole:
        record = compare_systems(whole, _opened(collections, whole), metric=metric, seed=seed)
        _write(folder / RECORD, record)
        write_page(record, folder / PAGE)
    _write(folder / SUMMARY, summary)
    log_metadata({"systems": ", ".join(outcomes), "compared": ", ".join(whole), "failures": len(failures)})
    return FolderArtifact.of(folder)


def _outcomes(artifacts: Sequence[FolderArtifact], groups: Mapping[str, str]) -> Outcomes:
    """What judging came to; two references that meant one version are one system."""
    outcomes: Outcomes = {}
    for artifact in artifacts:
        name, system = str(artifact.facts["collection"]), str(artifact.facts["system"])
        failure = failure_of(artifact)
        result = None if failure is not None else open_result(artifact)
        split = "" if result is None else result.split
        place = Place(name, name, split, group=groups[name])
        public = "" if result is None else str(result.protocol.get("public", ""))
        outcome = Outcome(place, result, error=failure or "", public=public)
        outcomes.setdefault(system, {}).setdefault(name, outcome)
    return outcomes


def _by_collection(outcomes: Outcomes) -> dict[str, list[SystemResult]]:
    """Collection to the results of the systems that could be judged on it."""
    judged: dict[str, list[SystemResult]] = {}
    for by_collection in outcomes.values():
        for name, outcome in by_collection.items():
            if outcome.result is not None:
                judged.setdefault(name, []).append(outcome.result)
    return judged


def _scores(systems: Sequence[SystemResult], subsets: Mapping[str, NDArray[np.bool_]]) -> dict[str, Any]:
    """Means of every system on the whole split and, beside them, on its leak-free subsets."""
    first = systems[0]
    return {
        "split": first.split,
        "queries": len(first.query_ids),
        "documents": first.documents,
        "protocol": dict(first.protocol),
        "systems": {one.name: {key: one.means[key] for key in METRICS} for one in systems},
        "subsets": {
            name: {
                "queries": int(marks.sum()),
                "systems": {
                    one.name: {key: float(np.asarray(one.per_query[key])[marks].mean()) for key in METRICS}
                    for one in systems
                },
            }
            for name, marks in subsets.items()
            if marks.any()
        },
    }


def _opened(artifacts: Sequence[FolderArtifact], wanted: Mapping[str, Any]) -> dict[str, Collection]:
    return {name: open_collection(one) for one in artifacts if (name := str(one.facts["name"])) in wanted}


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, allow_nan=False), encoding="utf-8")
