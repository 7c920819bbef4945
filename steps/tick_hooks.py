"""The hooks of the retraining: those of every pipeline, and an alarm of its own when a tick fails."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from typing import Any

from zenml.steps.step_context import StepContext

from llara_core.config import TrainingSettings
from llara_core.errors import LlaraError
from llara_core.operations.alerts import Alert
from llara_core.operations.freshness import FAILED
from llara_core.operations.freshness_history import append
from llara_core.retraining_settings import RetrainingSettings
from steps import tick_state
from steps.alerting import alert
from steps.caching import ROOT
from steps.hooks import HOOKS, identify, on_purpose

logger = logging.getLogger(__name__)


def tick_failed(exception: BaseException) -> None:
    """After the last try of a step: the history says so, the lock is free, somebody is told."""
    who, context = identify(), StepContext.get()
    text = f"{type(exception).__name__}: {exception}"
    name = _model(context)
    if name is not None:
        _record(name, who, text)
        tick_state.release(name)
    if on_purpose(exception):
        return
    title = f"retraining: step {who.get('step', '?')} failed"
    facts = {key.replace("_", " "): value for key, value in who.items()}
    alert(Alert("tick failed", title, text, "critical", facts))


TICK_HOOKS: dict[str, Any] = {**HOOKS, "on_failure": tick_failed}


def _model(context: StepContext | None) -> str | None:
    """The registered model that the run is about; None where it cannot be told."""
    if context is None:
        return None
    try:
        settings = RetrainingSettings.of_parameters(context.pipeline_run.config.parameters or {})
        values = settings.training_values(ROOT)
    except LlaraError as error:
        logger.error("The history of ticks tells nothing of this failure: %s", error)
        return None
    return TrainingSettings.parse(values.get("parameters"), "parameters").registry.model_name


def _record(name: str, who: Any, text: str) -> None:
    """Add to the tick's record how it ended, or that it failed before it could decide."""
    file, run = tick_state.history(name), who.get("run", "?")
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    outcome = {"state": FAILED, "words": f"failed in step {who.get('step', '?')}: {text[:1000]}"}
    record = {"tick": run, "outcome": outcome}
    if who.get("step") != "act":
        record |= {"time": now, "model": name, "action": FAILED, "reason": outcome["words"], "checks": []}
    try:
        append(file, record)
    except LlaraError as error:
        logger.error("The history of ticks could not be written: %s", error)
