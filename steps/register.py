"""Register: the fine-tuned bundle becomes a version in the MLflow model registry."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from zenml import log_metadata, step

from llara_core.environment import describe
from llara_core.evaluation.comparison import WITHOUT_ADAPTATION
from llara_core.model.bundle import read_bundle, write_scores
from llara_core.model.retriever import Retriever
from llara_core.operations.gate_arms import choose_arm, marks_of
from llara_core.promotion_settings import PromoteSettings
from steps import registry, tracking
from steps.caching import policy
from steps.materializers import FolderArtifact
from steps.stored.comparison import open_comparison
from steps.stored.subsets import open_subsets
from steps.workspace import new_folder

logger = logging.getLogger(__name__)


@step(cache_policy=policy(__file__))
def register(
    model: FolderArtifact,
    comparison: FolderArtifact,
    leaks: FolderArtifact,
    name: str,
    configuration: dict[str, Any],
    choosing: PromoteSettings,
    unadapted: FolderArtifact | None = None,
) -> Annotated[dict[str, Any], "registration"]:
    """Name, version and scores of the new version; its alias is ``challenger``.

    The adapted model is registered if adaptation paid, otherwise the unadapted one is (issue 6, point 1).

    Args:
        model: the fine-tuned bundle of the adapted arm.
        comparison: how all were judged.
        leaks: which queries training has not given away: only they tell whether adaptation paid.
        name: of the registered model.
        configuration: all settings of the run, for the record.
        choosing: the part of the gate's rules by which an arm is chosen.
        unadapted: the fine-tuned bundle of the arm without adaptation, if there is one.

    Raises:
        DataError: the fine-tuned model was not judged.
    """
    judged = open_comparison(comparison)
    systems = [one["name"] for one in judged.systems]
    system, arm = choose_arm(judged, marks_of(open_subsets(leaks), choosing.leak_free), choosing)
    if system == WITHOUT_ADAPTATION and unadapted is not None:
        model = unadapted
    scores = judged.metrics_of(system)
    data = judged.collection
    registration: dict[str, Any] = {
        "name": name,
        "version": None,
        "collection": data["name"],
        "split": data["split"],
        "data_hash": data["content_hash"],
        "fingerprint": model.content_hash,
        "system": system,
        "arm": dict(vars(arm)),
        "scores": {one: judged.metrics_of(one) for one in systems},
    }
    if not (tracking.active_run_id() and registry.registry_is_mlflow()):
        logger.warning("The stack has no MLflow model registry: the model stays in the artifact store only.")
        return registration
    surroundings = describe()
    tags = {
        **{metric: repr(value) for metric, value in scores.items()},
        **{key: str(registration[key]) for key in ("collection", "split", "data_hash", "fingerprint")},
        "system": system,
        "arm_reason": arm.words,
        "base_model": read_bundle(model.path).base_model,
        "configuration": json.dumps(configuration, sort_keys=True),
        "environment": json.dumps(surroundings, sort_keys=True),
        "git_commit": (surroundings["git"] or {}).get("commit", "unknown"),
        "mlflow_run_id": str(tracking.active_run_id()),
    }
    dimension = Retriever.from_pretrained(model.path).dimension
    bundle = _with_scores(model.path, {f"{data['name']}/{system}/{key}": one for key, one in scores.items()})
    try:
        registration["version"] = registry.log_version(name, bundle, dimension, tags)
    finally:
        shutil.rmtree(bundle.parent)
    log_metadata({"registered_model": name, "version": registration["version"], "scores": scores})
    logger.info("%s", arm.words)
    logger.info("Registered %s version %s (alias %s)", name, registration["version"], registry.CHALLENGER)
    return registration


def _with_scores(bundle: Path, scores: Mapping[str, float]) -> Path:
    """A copy of the bundle that says how it was judged; the stored artifact itself never changes."""
    copy = Path(shutil.copytree(bundle, new_folder("scored") / "bundle"))
    write_scores(copy, scores)
    return copy
