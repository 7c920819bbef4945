"""Decide: train, refresh the index, or skip; and write down why."""

from __future__ import annotations

import logging
import socket
from typing import Annotated, Any

from zenml import log_metadata, step

from llara_core.operations.decision import Verdict
from llara_core.operations.freshness import Observation
from llara_core.operations.freshness import decide as judge
from llara_core.operations.freshness_history import append
from llara_core.retraining_settings import RetrainingSettings
from steps import tick_state, tracking
from steps.caching import never

logger = logging.getLogger(__name__)


@step(enable_cache=False, cache_policy=never())
def decide(
    tick: dict[str, Any], observation: dict[str, Any], name: str, settings: RetrainingSettings
) -> Annotated[dict[str, Any], "verdict"]:
    """The verdict, as ``Verdict.to_dict`` gives it.

    It is also the metadata of this step, ``tick.md``, ``tick.json``, tags and metrics of the MLflow run, and
    a line of the history below the local state.

    Args:
        tick: what ``begin_tick`` gave.
        observation: what ``observe`` gave.
        name: of the registered model.
        settings: the thresholds.
    """
    seen = Observation.of(observation)
    verdict = judge(seen, settings)
    told = verdict.to_dict()
    record = {
        "tick": tick["tick"], "time": tick["time"], "model": name, "host": socket.gethostname(),
        "champion": seen.champion, "data_hash": seen.data_hash, "crashed": tick["crashed"], **told,
    }  # fmt: skip
    append(tick_state.history(name), record)
    log_metadata({"tick": {"action": verdict.action, "reason": verdict.reason, "checks": verdict.markdown()}})
    log_to_mlflow(verdict)
    logger.info("Tick: %s (%s)", verdict.action, verdict.reason)
    return told


def log_to_mlflow(verdict: Verdict) -> None:
    """Tables, tags, and the numbers as metrics ``tick/<check>`` beside ``tick/<check>_threshold``."""
    tracking.log_text(verdict.markdown(), "tick.md")
    tracking.log_json(verdict.to_dict(), "tick.json")
    tracking.set_tags({"tick": verdict.action, "tick_reason": verdict.reason})
    numbers: dict[str, float] = {}
    for check in verdict.checks:
        values = {f"tick/{check.name}": check.value, f"tick/{check.name}_threshold": check.threshold}
        numbers |= {key: value for key, value in values.items() if value is not None}
    tracking.log_metrics(numbers)
