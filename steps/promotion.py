"""What promoting has in common, whichever model it is about: the decision, and where it is written."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from zenml import log_metadata

from steps import registry, tracking

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decision:
    """Whether a version becomes the champion, and why; a sentence for people."""

    promoted: bool
    reason: str


def record(name: str, number: str, decision: Decision) -> None:
    """Write the decision to the version, the MLflow run and the step."""
    import mlflow

    tags = {
        "promoted": str(decision.promoted).lower(),
        registry.REASON: decision.reason,
    }
    client = mlflow.MlflowClient()
    for key, value in tags.items():
        client.set_model_version_tag(name, number, key, value)
    tracking.set_tags({**tags, "registered_version": f"{name}/{number}"})
    log_metadata({"promotion": {"promoted": decision.promoted, "reason": decision.reason}})
    logger.info("Champion %s: %s", "moved" if decision.promoted else "kept", decision.reason)
