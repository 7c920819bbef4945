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
from llara_core.model.bundle import read_bundle, write_scores
from llara_core.model.retriever import Retriever
from steps import registry, tracking
from steps.caching import policy
from steps.materializers import FolderArtifact
from steps.stored.comparison import open_comparison
from steps.workspace import new_folder

logger = logging.getLogger(__name__)
SYSTEM = "finetuned"


@step(cache_policy=policy(__file__))
def register(
    model: FolderArtifact, comparison: FolderArtifact, name: str, configuration: dict[str, Any]
) -> Annotated[dict[str, Any], "registration"]:
    """Name, version and scores of the new version; its alias is ``challenger``.

    Args:
        model: the fine-tuned bundle.
        comparison: how it was judged.
        name: of the registered model.
        configuration: all settings of the run, for the record.

    Raises:
        DataError: the fine-tuned model was not judged.
    """
    judged = open_comparison(comparison)
    systems = [one["name"] for one in judged.systems]
    scores = judged.metrics_of(SYSTEM)
    data = judged.collection
    registration: dict[str, Any] = {
        "name": name,
        "version": None,
        "collection": data["name"],
        "split": data["split"],
        "data_hash": data["content_hash"],
        "fingerprint": model.content_hash,
        "scores": {system: judged.metrics_of(system) for system in systems},
    }
    if not (tracking.active_run_id() and registry.registry_is_mlflow()):
        logger.warning("The stack has no MLflow model registry: the model stays in the artifact store only.")
        return registration
    surroundings = describe()
    tags = {
        **{metric: repr(value) for metric, value in scores.items()},
        **{key: str(registration[key]) for key in ("collection", "split", "data_hash", "fingerprint")},
        "base_model": read_bundle(model.path).base_model,
        "configuration": json.dumps(configuration, sort_keys=True),
        "environment": json.dumps(surroundings, sort_keys=True),
        "git_commit": (surroundings["git"] or {}).get("commit", "unknown"),
        "mlflow_run_id": str(tracking.active_run_id()),
    }
    dimension = Retriever.from_pretrained(model.path).dimension
    bundle = _with_scores(model.path, {f"{data['name']}/{SYSTEM}/{key}": one for key, one in scores.items()})
    try:
        registration["version"] = registry.log_version(name, bundle, dimension, tags)
    finally:
        shutil.rmtree(bundle.parent)
    log_metadata({"registered_model": name, "version": registration["version"], "scores": scores})
    logger.info("Registered %s version %s (alias %s)", name, registration["version"], registry.CHALLENGER)
    return registration


def _with_scores(bundle: Path, scores: Mapping[str, float]) -> Path:
    """A copy of the bundle that says how it was judged; the stored artifact itself never changes."""
    copy = Path(shutil.copytree(bundle, new_folder("scored") / "bundle"))
    write_scores(copy, scores)
    return copy
