"""Runs whose process was killed: ZenML and MLflow would believe for ever that they are under way.

Every process that works on a run holds a lock that bears its id (``steps.hooks``), and the kernel lets go of
it however the process ends. A run that is open in ZenML while nobody holds its lock is over. Source: issue 6,
point 5.
"""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from llara_core.operations.retention_use import locked

logger = logging.getLogger(__name__)

_REASON = "its process was killed; the same command goes on where it was"
_DAY = timedelta(days=1)


def lock_of(local: Path, run_id: str) -> Path:
    """The lock that whoever works on a run holds.

    Args:
        local: folder of the local state.
        run_id: of ZenML.
    """
    return local / "locks" / f"run-{run_id}.lock"


def close(local: Path) -> list[str]:
    """Mark runs whose process is gone as failed, in ZenML and MLflow.

    Runs of other machines, whose locks are not here, are left alone, and so are those that a cluster carries
    out: each of their steps is a process of its own, and between two of them nobody holds the lock. A run
    that never began a step is closed after a day.

    Args:
        local: folder of the local state.

    Returns:
        their names.
    """
    from zenml.client import Client
    from zenml.enums import ExecutionStatus

    states = [one.value for one in ExecutionStatus if not one.is_finished]
    found = Client().list_pipeline_runs(status=f"oneof:{json.dumps(states)}", size=200, hydrate=True).items
    closed = []
    for run in found:
        if _is_over(local, run):
            _close(run)
            closed.append(str(run.name))
    if closed:
        _close_in_mlflow(set(closed))
        logger.info("Closed %s: %s", ", ".join(closed), _REASON)
    for lock in (local / "locks").glob("run-*.lock"):
        if not locked(lock) and not _open(lock, found, closed):
            lock.unlink(missing_ok=True)
            lock.with_suffix(".json").unlink(missing_ok=True)
    return closed


def _is_over(local: Path, run: Any) -> bool:
    if _elsewhere(run):
        return False
    lock = lock_of(local, str(run.id))
    if lock.exists():
        return not locked(lock)
    age = datetime.now(timezone.utc) - run.created.replace(tzinfo=run.created.tzinfo or timezone.utc)
    return not run.steps and age > _DAY


def _elsewhere(run: Any) -> bool:
    from zenml.enums import StackComponentType

    components = {} if run.stack is None else run.stack.components
    return any(one.flavor_name != "local" for one in components.get(StackComponentType.ORCHESTRATOR) or ())


def _open(lock: Path, found: list[Any], closed: list[str]) -> bool:
    """Whether the lock belongs to a run that is still open."""
    return any(lock.stem == f"run-{run.id}" and run.name not in closed for run in found)


def _close(run: Any) -> None:
    from zenml.client import Client
    from zenml.enums import ExecutionStatus
    from zenml.models import PipelineRunUpdate, StepRunUpdate

    store, now = Client().zen_store, datetime.now(timezone.utc)
    for step in run.steps.values():
        if not step.status.is_finished:
            store.update_run_step(step.id, StepRunUpdate(status=ExecutionStatus.FAILED, end_time=now))
    store.update_run(run.id, PipelineRunUpdate(status=ExecutionStatus.FAILED, status_reason=_REASON))


def _close_in_mlflow(names: set[str]) -> None:
    import mlflow
    from mlflow.exceptions import MlflowException

    from pipelines.stacks import EXPERIMENT

    client = mlflow.MlflowClient()
    try:
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return
        for name in names:
            # Whatever their state: ZenML ends its run after each step, so a killed one may look finished.
            for run in client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'"):
                client.set_terminated(run.info.run_id, "KILLED")
    except MlflowException as error:  # it is only a word in a list
        logger.warning("MLflow does not know that they are over: %s", str(error).strip().splitlines()[0])
