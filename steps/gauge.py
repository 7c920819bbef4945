"""Gauge: the new version and the present champion on the same data, for the promotion gate."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from zenml import log_metadata, step

from llara_core.config import EvaluateSettings, PromoteSettings
from llara_core.data.collection import Collection
from llara_core.data.intake import take_in
from llara_core.data.leaks_sides import Evaluation, Training
from llara_core.data.leaks_subsets import near_pairs
from llara_core.evaluation.beir import DenseSystem, evaluate_system
from llara_core.evaluation.comparison import BASELINE, Comparison
from llara_core.evaluation.subsets import NEAR_DUPLICATE
from llara_core.model.retriever import Retriever
from llara_core.operations.gate_arms import marks_of, scores_of
from llara_core.operations.gate_evidence import Cost, Evidence, Judged, Scores
from llara_core.operations.gate_limits import measure
from llara_core.promotion_settings import GuardSettings
from llara_core.retrieval.vectors import corpus_vectors
from steps import registry, tracking
from steps.caching import never
from steps.materializers import FolderArtifact
from steps.stored.collection import open_collection
from steps.stored.comparison import open_comparison
from steps.stored.subsets import open_subsets
from steps.workspace import new_folder, vectors_folder

logger = logging.getLogger(__name__)


@step(enable_cache=False, cache_policy=never())
def gauge(
    registration: dict[str, Any],
    comparison: FolderArtifact,
    collection: FolderArtifact,
    leaks: FolderArtifact,
    settings: PromoteSettings,
    evaluation: EvaluateSettings,
) -> Annotated[dict[str, Any], "gate_evidence"]:
    """Scores per query and costs of both models, as ``Evidence.to_dict`` gives them.

    Empty where no version was registered, or it is the champion already.

    Never cached, since the champion may have changed. What both models have encoded before is not encoded
    again: the corpus's vectors lie in the folder that mining and evaluation share.

    Args:
        registration: what ``register`` gave.
        comparison: how the challenger was judged on the primary collection.
        collection: the primary collection, on which the champion is judged again.
        leaks: which of its queries training has not given away.
        settings: the gate's rules, with the guarded collections.
        evaluation: how the challenger was judged, so that the champion is judged alike.

    Raises:
        DataError: a guarded collection cannot be read, or has no such split.
    """
    name, number = registration["name"], registration["version"]
    if number is None or not (tracking.active_run_id() and registry.registry_is_mlflow()):
        return {}
    registry.finish_move(name)
    champion = registry.version_of(name, registry.CHAMPION)
    if champion is not None and str(champion.version) == str(number):
        return {}
    folders = {"challenger": registry.bundle_of(name, number)}
    blocked = _blocked(registration, champion)
    if champion is not None and blocked is None:
        folders["champion"] = registry.bundle_of(name, str(champion.version))
    models = {role: Retriever.from_pretrained(folder) for role, folder in folders.items()}
    data = open_collection(collection)
    costs = _costs(models, folders, data, evaluation)
    judged = open_comparison(comparison)
    marks = marks_of(open_subsets(leaks), settings.leak_free)
    guards = settings.guards if "champion" in models else ()  # without a champion nothing can be forgotten
    evidence = Evidence(
        primary=_primary(registration, judged, data, models, marks, settings, evaluation),
        cost=costs["challenger"],
        guards=tuple(_guarded(one, data, models, settings, evaluation) for one in guards),
        champion_cost=costs.get("champion"),
        champion=None if champion is None else str(champion.version),
        blocked=blocked,
    )
    log_metadata({"champion": evidence.champion or "none", "guards": [one.name for one in evidence.guards]})
    return evidence.to_dict()


def _blocked(registration: dict[str, Any], champion: Any | None) -> str | None:
    """Why no scores can help this version; None where they decide."""
    reason = registry.rolled_back(registration["name"], registration["version"], registration["fingerprint"])
    if reason is not None:
        return f"{reason}; move the alias by hand to bring it back"
    if champion is None:
        return None
    tags = champion.tags
    if not {"collection", "split"} <= set(tags):
        return "the present champion carries no scores of ours; move the alias by hand"
    theirs, ours = (tags["collection"], tags["split"]), (registration["collection"], registration["split"])
    if theirs != ours:
        return (
            f"the present champion is judged on {'/'.join(theirs)}, this version on {'/'.join(ours)}: not "
            "comparable; registry.model_name keeps both"
        )
    return None


def _primary(
    registration: dict[str, Any],
    judged: Comparison,
    data: Collection,
    models: dict[str, Retriever],
    marks: NDArray[np.bool_] | None,
    settings: PromoteSettings,
    evaluation: EvaluateSettings,
) -> Judged:
    split = registration["split"]
    champion = None
    if "champion" in models:
        champion = _scores("champion", models["champion"], data, split, settings, evaluation)
    known = {one["name"] for one in judged.systems}
    return Judged(
        name=data.name,
        split=split,
        challenger=scores_of(judged, registration["system"], settings.metric),
        champion=champion,
        bm25=scores_of(judged, BASELINE, settings.metric) if BASELINE in known else None,
        leak_free=marks,
    )


def _guarded(
    guard: GuardSettings,
    primary: Collection,
    models: dict[str, Retriever],
    settings: PromoteSettings,
    evaluation: EvaluateSettings,
) -> Judged:
    """Both models on a guarded collection; queries like those of the primary's training do not count."""
    folder = new_folder("guard")
    try:
        data = take_in(guard.collection, folder).collection
        evaluated, training = Evaluation.of(data, guard.split), Training.of(primary, evaluation.train_split)
        marks = np.ones(len(evaluated.ids), np.bool_)
        if settings.leak_free:
            marks[near_pairs(evaluated.texts, training.texts, NEAR_DUPLICATE).queries] = False
        scores = {
            role: _scores(role, model, data, guard.split, settings, evaluation)
            for role, model in models.items()
        }
        return Judged(data.name, guard.split, **scores, leak_free=marks, margin=guard.margin)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _scores(
    role: str,
    model: Retriever,
    data: Collection,
    split: str,
    settings: PromoteSettings,
    evaluation: EvaluateSettings,
) -> Scores:
    system = DenseSystem(role, model, data, vectors_folder(), dtype=evaluation.vectors)
    result = evaluate_system(data, split, system, evaluation.depth)
    logger.info("%s on %s: %s %.4f", role, data.name, settings.metric, result.means[settings.metric])
    return result.per_query[settings.metric]


def _costs(
    models: dict[str, Retriever], folders: dict[str, Path], data: Collection, evaluation: EvaluateSettings
) -> dict[str, Cost]:
    vectors = [
        corpus_vectors(model, data.passages, vectors_folder(), dtype=evaluation.vectors)
        for model in models.values()
    ]
    _, texts = data.split_queries(evaluation.split)
    costs = measure(list(models.values()), list(folders.values()), vectors, texts)
    return dict(zip(models, costs, strict=True))
