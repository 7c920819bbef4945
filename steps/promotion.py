"""What promoting has in common, whichever model it is about: the decision, and where it is written."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass

from zenml import log_metadata

from llara_core.operations.decision import Verdict
from steps import registry, tracking
from steps.alerting import Alert, alert

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decision:
    """Whether a version becomes the champion, and why; a sentence for people."""

    promoted: bool
    reason: str


def record(name: str, number: str, decision: Decision, verdict: Verdict | None = None) -> None:
    """Write the decision to the version, the MLflow run and the step; tell somebody of a refusal.

    Args:
        name: of the registered model.
        number: of the version.
        decision: what was decided, in a sentence.
        verdict: all checks behind it, where there are any: tables ``promotion.md`` and ``promotion.json`` of
            the MLflow run, metadata of the step, and a tag of the version.
    """
    import mlflow

    tags = {
        "promoted": str(decision.promoted).lower(),
        registry.REASON: decision.reason,
    }
    kept = {} if verdict is None else {registry.VERDICT: json.dumps(verdict.to_dict(), sort_keys=True)}
    client = mlflow.MlflowClient()
    for key, value in {**tags, **kept}.items():
        client.set_model_version_tag(name, number, key, value)
    tracking.set_tags({**tags, "registered_version": f"{name}/{number}"})
    metadata: dict[str, object] = {"promoted": decision.promoted, "reason": decision.reason}
    if verdict is not None:
        tracking.log_text(verdict.markdown(), "promotion.md")
        tracking.log_json(verdict.to_dict(), "promotion.json")
        metadata["checks"] = verdict.markdown()
    log_metadata({"promotion": metadata})
    logger.info("Champion %s: %s", "moved" if decision.promoted else "kept", decision.reason)
    if not decision.promoted:
        title = f"{name} version {number} was not promoted"
        facts = {"model": name, "version": number}
        alert(Alert("promotion refused", title, decision.reason, "warning", facts))
