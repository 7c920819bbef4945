"""Register the adapted model: a version that later training runs may start from."""

from __future__ import annotations

import json
import logging
from typing import Annotated, Any

from zenml import log_metadata, step

from llara_core.environment import describe
from llara_core.model.bundle import read_bundle
from llara_core.model.retriever import Retriever
from steps import registry, tracking
from steps.caching import policy
from steps.materializers import FolderArtifact
from steps.stored.collection import open_collection

logger = logging.getLogger(__name__)


@step(cache_policy=policy(__file__))
def register_adapted(
    model: FolderArtifact,
    text: FolderArtifact,
    judgement: dict[str, Any],
    name: str,
    configuration: dict[str, Any],
) -> Annotated[dict[str, Any], "registration"]:
    """Name, version and judgement of the new version; its alias is ``challenger``.

    The version's tags hold its lineage: the text with its hash, the base model, all settings, code version
    and environment. The loss curve lies in the bundle's ``llara.json`` and in the MLflow run.

    Args:
        model: the adapted bundle.
        text: what it was adapted on.
        judgement: losses on held-out passages, before and after.
        name: of the registered model.
        configuration: all settings of the run, for the record.
    """
    registration: dict[str, Any] = {"name": name, "version": None, "judgement": judgement}
    if not (tracking.active_run_id() and registry.registry_is_mlflow()):
        logger.warning("The stack has no MLflow model registry: the model stays in the artifact store only.")
        return registration
    surroundings, bundle, data = describe(), read_bundle(model.path), open_collection(text)
    tags = {
        "text": data.name,
        "data_hash": data.content_hash,
        "base_model": bundle.base_model,
        "template": bundle.template.name,
        "fingerprint": bundle.fingerprint,
        "held_out_loss": repr(judgement["adapted"]["loss"]),
        "held_out_loss_of_base": repr(judgement["base"]["loss"]),
        "configuration": json.dumps(configuration, sort_keys=True),
        "environment": json.dumps(surroundings, sort_keys=True),
        "git_commit": (surroundings["git"] or {}).get("commit", "unknown"),
        "mlflow_run_id": str(tracking.active_run_id()),
    }
    dimension = Retriever.from_pretrained(model.path).dimension
    registration["version"] = registry.log_version(name, model.path, dimension, tags)
    log_metadata({"registered_model": name, "version": registration["version"]})
    logger.info("Registered %s version %s (alias %s)", name, registration["version"], registry.CHALLENGER)
    return registration
