"""What happens around every step of every pipeline: ids for its log lines, its time and cost, an alarm.

A pipeline takes them all with ``@pipeline(..., **HOOKS)``. ZenML passes them on to each step: ``started``
before it, ``ended`` after it, ``failed`` after its last try. Steps from the cache run no hook and cost
nothing.
ZenML swallows what a hook raises, so nothing here can fail a run; what went wrong stands in the log.
Source: issue 6, point 6.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zenml import log_metadata
from zenml.client import Client
from zenml.steps.step_context import StepContext

from llara_core.operations import costs, logs
from llara_core.operations.alerts import Alert
from llara_core.operations.lock import Held, Holder, take
from llara_core.operations_settings import OperationsSettings
from steps import tick_state
from steps.alerting import alert
from steps.caching import ROOT

logger = logging.getLogger(__name__)

USAGE, TOTAL = "usage", "usage_of_run"  # keys of the metadata of a step, and of a run
_GB = 10**9
# What names a disk that runs fill, what lies there, and how to make room.
_DISKS = (
    ("LLARA_LOCAL", "the local state lies", "llara gc"),
    ("LLARA_CHECKPOINTS", "checkpoints and vectors of all pods lie", "llara gc --volume FOLDER"),
)
# A person or an operator did it: no reason to wake another.
_ON_PURPOSE = {
    "KeyboardInterrupt", "RunStoppedException", "RunInterruptedException",
    "StepHeartBeatTerminationException",
}  # fmt: skip
_meters: dict[
    str, tuple[costs.Meter, tuple[str, str] | None]
] = {}  # of running steps; MLflow's store and run
_told_of_disk: set[str] = set()  # runs
_runs_of_this_process: dict[str, Held | Holder] = {}  # ids to their locks


def operations() -> OperationsSettings:
    """Settings of ``$LLARA_OPERATIONS``, else ``configs/operations.yaml``."""
    return OperationsSettings.load(ROOT / "configs" / "operations.yaml")


def identify() -> Mapping[str, str]:
    """Ids and names of the running step and its run, for log lines; empty outside of one."""
    context = StepContext.get()
    if context is None:
        return {}
    run, step = context.pipeline_run, context.step_run
    return {"run_id": str(run.id), "run": run.name, "step_id": str(step.id), "step": step.name}


def structured_logs() -> None:
    """Turn the log of this process into JSON on stderr, if ``$LLARA_LOG_FORMAT`` says so.

    Raises:
        ConfigError: the variable holds an unknown format.
    """
    if logs.chosen_format() == "json":
        logs.use_json(identify, logs.RawStderr())


def started() -> None:
    """Before a step: logs, the disk, the clock."""
    structured_logs()
    who = identify()
    if not who:  # of a dynamic pipeline's run, which has no step
        return
    logs.bind(who)
    _hold(who)
    mlflow = sys.modules.get("mlflow")
    tracked = mlflow.active_run() if mlflow is not None else None
    _watch_disk(who)
    # ZenML closes the run, and forgets the store, before it calls ``ended``.
    where = None if tracked is None else (mlflow.get_tracking_uri(), tracked.info.run_id)
    _meters[who["step_id"]] = costs.Meter(), where


def ended(exception: BaseException | None = None) -> None:
    """After a step, whether it went well or not: what it took, in ZenML and MLflow."""
    who = identify()
    meter, tracked = _meters.pop(who.get("step_id", ""), (None, None))
    logs.bind({})
    if meter is None:
        return
    settings = operations().costs
    usage = meter.stop().to_dict()
    amount = costs.cost(usage["seconds"], usage["gpus"], settings)
    if amount is not None:
        usage |= {"cost": round(amount, 6), "currency": settings.currency}
    log_metadata({USAGE: usage})
    whole = costs.total(_usages(who["run_id"], who["step"], usage), settings)
    log_metadata({TOTAL: whole}, run_id_name_or_prefix=who["run_id"])
    if tracked is not None:
        _to_mlflow(*tracked, {who["step"]: usage, "run": whole})


def failed(exception: BaseException) -> None:
    """After the last try of a step: raise the alarm."""
    if on_purpose(exception):
        return
    context, who = StepContext.get(), identify()
    text = f"{type(exception).__name__}: {exception}"
    title = "a run failed outside of its steps"
    if context is not None:
        title = f"{context.pipeline.name}: step {who['step']} failed"
    alert(
        Alert(
            "run failed", title, text, "critical", {name.replace("_", " "): one for name, one in who.items()}
        )
    )


def _hold(who: Mapping[str, str]) -> None:
    """Hold the lock of the run until this process ends, however it does: see ``pipelines.orphans``."""
    if who["run_id"] not in _runs_of_this_process:
        folder = tick_state.local_state() / "locks"
        _runs_of_this_process[who["run_id"]] = take(folder / f"run-{who['run_id']}.lock", who["run"])


def on_purpose(exception: BaseException) -> bool:
    """Whether somebody stopped the run."""
    return type(exception).__name__ in _ON_PURPOSE


HOOKS: dict[str, Any] = {"on_start": started, "on_end": ended, "on_failure": failed}


def _usages(run: str, step: str, own: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What every step of a run took that has ended."""
    others = Client().list_run_steps(pipeline_run_id=run, size=1000, hydrate=True).items
    found = [one.run_metadata[USAGE] for one in others if one.name != step and USAGE in one.run_metadata]
    return [*found, own]


def _to_mlflow(store: str, run: str, usages: Mapping[str, Mapping[str, Any]]) -> None:
    """As metrics ``usage/<step>.<what>``; the run is closed already, so it is named.

    A store that is away costs the figures, which ZenML has too, and no more.
    """
    import mlflow
    from mlflow.entities import Metric
    from mlflow.exceptions import MlflowException
    from mlflow.utils.time import get_current_time_millis

    now = get_current_time_millis()
    metrics = [
        Metric(f"usage/{name}.{key}", float(value), now, 0)
        for name, usage in usages.items()
        for key, value in usage.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    try:
        mlflow.MlflowClient(tracking_uri=store).log_batch(run, metrics=metrics)
    except (MlflowException, OSError) as error:
        logger.warning("MLflow did not take time and cost of the step (%s).", type(error).__name__)


def _watch_disk(who: Mapping[str, str]) -> None:
    """Raise the alarm when a disk that runs fill is nearly full; once a run, as far as this process knows."""
    least = operations().alerts.minimum_free_gb
    if not least or who["run_id"] in _told_of_disk:
        return
    for variable, where, command in _DISKS:
        told = os.environ.get(variable)
        if told is None:
            continue
        place = next((one for one in (Path(told), *Path(told).parents) if one.is_dir()), None)
        free = shutil.disk_usage(place).free / _GB if place is not None else least
        if free < least:
            _told_of_disk.add(who["run_id"])
            text = f"{free:.1f} GB are free where {where}; the alarm is set to {least:g} GB."
            facts = {"run": who["run"], "step": who["step"], "next command": command}
            alert(Alert("disk low", "the disk is nearly full", text, "critical", facts))
            return
