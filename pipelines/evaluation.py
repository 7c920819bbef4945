"""The evaluation pipeline: any registered versions, judged on a list of collections. Wiring only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from zenml import pipeline
from zenml.enums import ExecutionMode

from llara_core.evaluation_settings import BM25, EvaluationSettings
from pipelines.checked import checked
from pipelines.judged import Judged, judged_collections
from pipelines.options import for_stack, readable_errors
from steps.admit import admit
from steps.all_judged import all_judged
from steps.hooks import HOOKS
from steps.identify_collection import identify_collection
from steps.identify_system import identify_system
from steps.judge_system import judge_system
from steps.publish_evaluation import publish_evaluation
from steps.side_by_side import side_by_side

STEPS = ("side_by_side", "publish_evaluation", "all_judged")  # and those that bear a name of the settings


def step_names(settings: EvaluationSettings) -> tuple[str, ...]:
    """Names of all steps that a run with these settings has."""
    systems, collections = _ids(settings, judged_collections(settings))
    return (
        *(f"identify_{name}" for name in (*systems, *collections)),
        *(f"admit_{name}" for name in collections),
        *(f"judge_{system}_on_{collection}" for collection in collections for system in systems),
        *STEPS,
    )


@checked(step_names, EvaluationSettings)
@pipeline(name="evaluation", execution_mode=ExecutionMode.FAIL_FAST, **HOOKS)
@readable_errors
def evaluation_pipeline(  # noqa: PLR0913, PLR0917 - the fields of EvaluationSettings
    seed: int = 0,
    models: list[Any] | None = None,
    collections: list[Any] | None = None,
    split: str | None = None,
    metric: str | None = None,
    depth: int | None = None,
    vectors: str | None = None,
    bm25: dict[str, Any] | None = None,
) -> None:
    """Identify, admit the collections, judge every system on each, compare, publish.

    The parameters are the fields of ``llara_core.evaluation_settings.EvaluationSettings``, as plain values.

    Raises:
        ConfigError: a setting is unknown or out of range; names the nearest known one.
    """
    given = dict(locals())
    _wire(EvaluationSettings.parse({key: value for key, value in given.items() if value is not None}, ""))


def _wire(settings: EvaluationSettings) -> None:
    """Connect the steps: a pair of system and collection is one step, cached by itself.

    What is identified comes first, so that a folder or a version that has gone stops the run before it
    costs anything. A collection that turns out to be broken later is written down and the others are
    judged (``steps.recorded``).
    """
    judged = judged_collections(settings)
    system_ids, collection_ids = _ids(settings, judged)
    systems = [
        for_stack(identify_system)(model=model, id=f"identify_{name}")
        for name, model in zip(system_ids, settings.models, strict=True)
    ]
    collections, results = [], []
    for name, one in zip(collection_ids, judged, strict=True):
        fingerprint = for_stack(identify_collection)(settings=one.settings, id=f"identify_{name}")
        collection = for_stack(admit)(
            source_fingerprint=fingerprint, settings=one.settings, split=one.place.split, id=f"admit_{name}"
        )
        collections.append(collection)
        for system_id, model, system in zip(system_ids, settings.models, systems, strict=True):
            # Only what concerns the system: a model is not judged again because BM25 is told something else.
            own = {"bm25": one.bm25} if model.model == BM25 else {"vectors": settings.vectors}
            result = for_stack(judge_system)(
                collection=collection, system=system, split=one.place.split, depth=settings.depth,
                protocol=dict(one.place.protocol), id=f"judge_{system_id}_on_{name}", **own,
            )  # fmt: skip
            results.append(result)
    comparison = for_stack(side_by_side)(
        collections=collections, results=results, metric=settings.metric, seed=settings.seed,
        groups={one.place.name: one.place.group for one in judged},
    )  # fmt: skip
    published = for_stack(publish_evaluation)(
        comparison=comparison, collections=collections, results=results, systems=systems,
        configuration=settings.model_dump(mode="json"),
    )  # fmt: skip
    for_stack(all_judged)(comparison=comparison, after=published)


def _ids(settings: EvaluationSettings, judged: Sequence[Judged]) -> tuple[list[str], list[str]]:
    """Names of systems and of collections as parts of step names, all different."""
    both = _different([*(one.label for one in settings.models), *(one.place.name for one in judged)])
    return both[: len(settings.models)], both[len(settings.models) :]


def _different(labels: Sequence[str]) -> list[str]:
    found: list[str] = []
    for label in labels:
        name = plain = re.sub(r"[^A-Za-z0-9]+", "_", label).strip("_").lower() or "unnamed"
        number = 2
        while name in found:
            name, number = f"{plain}_{number}", number + 1
        found.append(name)
    return found
