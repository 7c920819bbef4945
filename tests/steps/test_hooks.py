"""The hooks around every step, through a real run of a pipeline of two steps on the local stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llara_core.operations.alerts import WEBHOOK, Alert
from llara_core.operations.lock import Held
from llara_core.operations.retention_use import locked
from llara_core.operations_settings import AlertSettings, OperationsSettings
from pipelines import orphans
from steps import hooks
from tests.operations_webhook import Webhook

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 300  # seconds


@dataclass
class Done:
    """A run that has ended."""

    alerts: list[dict[str, Any]]
    lines: list[dict[str, Any]]
    recorded: dict[str, Any]
    returncode: int
    secret: str


ASK = """
import json, sys
from pipelines import environment
environment.apply()
import mlflow
from zenml.client import Client
(run,) = Client().list_pipeline_runs(hydrate=True).items
(tracked,) = mlflow.MlflowClient().search_runs([mlflow.get_experiment_by_name("llara").experiment_id])
print(json.dumps({
    "name": run.name, "id": str(run.id), "status": run.status.value, "run": run.run_metadata,
    "steps": {name: step.run_metadata for name, step in run.steps.items()},
    "ids": {name: str(step.id) for name, step in run.steps.items()},
    "metrics": tracked.data.metrics, "mlflow_name": tracked.info.run_name,
}))
"""


def launch(local: Path, mode: str) -> Done:
    settings = local / "operations.yaml"
    settings.write_text("alerts: {minimum_free_gb: 1000000000}\ncosts: {per_hour: 3600, currency: CHF}\n")
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("ZENML_", "MLFLOW_", "LLARA_"))
    }
    environment = {
        **kept,
        "LLARA_LOCAL": str(local),
        "LLARA_OPERATIONS": str(settings),
        "LLARA_LOG_FORMAT": "json",
    }
    webhook = Webhook()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.fixtures.hooked_pipeline", mode],
            cwd=REPOSITORY, env={**environment, WEBHOOK: webhook.address}, capture_output=True, text=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip
    finally:
        webhook.close()
    asked = subprocess.run(
        [sys.executable, "-c", ASK], cwd=REPOSITORY, env=environment, capture_output=True, text=True,
        timeout=PATIENCE, check=True,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    recorded = json.loads(asked.stdout.splitlines()[-1])
    assert webhook.token not in done.stdout + done.stderr
    return Done(webhook.bodies, lines, recorded, done.returncode, webhook.token)


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The first step goes well, the second fails; the disk is told to be full."""
    return launch(tmp_path_factory.mktemp("failed"), "fail")


def test_a_failure_is_told_once_with_what_to_go_by(failed: Done) -> None:
    assert failed.returncode != 0
    (alarm,) = [one for one in failed.alerts if one["kind"] == "run failed"]
    assert alarm["severity"] == "critical"
    assert "hooked: step second failed" in alarm["text"]
    assert "ValueError: planted after 3 numbers" in alarm["text"]
    assert alarm["facts"]["run id"] == failed.recorded["id"]
    assert alarm["facts"]["step id"] == failed.recorded["ids"]["second"]


def test_a_full_disk_is_told_once_a_run(failed: Done) -> None:
    (alarm,) = [one for one in failed.alerts if one["kind"] == "disk low"]
    assert "set to 1e+09 GB" in alarm["text"]


def test_lines_of_the_log_carry_run_and_step(failed: Done) -> None:
    (line,) = [one for one in failed.lines if one["message"] == "a line of the first step"]
    assert (line["run_id"], line["run"]) == (failed.recorded["id"], failed.recorded["name"])
    assert (line["step_id"], line["step"]) == (failed.recorded["ids"]["first"], "first")
    assert (line["level"], line["logger"]) == ("INFO", "llara_core.fixture")
    assert not [one for one in failed.lines if one["logger"] == "zenml.hooks.execution"]


def test_time_and_cost_are_recorded_for_steps_and_run(failed: Done) -> None:
    steps = {name: metadata["usage"] for name, metadata in failed.recorded["steps"].items()}
    assert set(steps) == {"first", "second"}  # that which failed has cost, too
    for usage in steps.values():
        assert usage["seconds"] > 0
        assert usage["peak_memory_bytes"] > 1 << 20
        assert usage["cost"] == pytest.approx(usage["seconds"], abs=1e-5)  # 3600 an hour is 1 a second
        assert usage["currency"] == "CHF"
    whole = failed.recorded["run"]["usage_of_run"]
    assert whole["steps"] == 2
    assert whole["seconds"] == pytest.approx(sum(one["seconds"] for one in steps.values()), abs=1e-5)
    assert whole["cost"] == pytest.approx(whole["seconds"], abs=1e-5)


def test_mlflow_has_the_same_figures(failed: Done) -> None:
    metrics = failed.recorded["metrics"]
    for name, metadata in failed.recorded["steps"].items():
        assert metrics[f"usage/{name}.seconds"] == metadata["usage"]["seconds"]
        assert metrics[f"usage/{name}.processor_seconds"] == metadata["usage"]["processor_seconds"]
    assert metrics["usage/run.seconds"] == failed.recorded["run"]["usage_of_run"]["seconds"]
    assert metrics["usage/run.cost"] == failed.recorded["run"]["usage_of_run"]["cost"]
    assert not [name for name in metrics if name.startswith("usage/") and name.count("/") != 1]


@pytest.mark.slow
def test_a_step_that_is_tried_again_raises_one_alarm(tmp_path: Path) -> None:
    done = launch(tmp_path, "retry")
    assert [one["kind"] for one in done.alerts] == ["disk low", "run failed"]
    assert sum(one["message"] == "a line of the first step" for one in done.lines) == 3


@pytest.mark.slow
def test_a_run_that_goes_well_raises_no_alarm(tmp_path: Path) -> None:
    done = launch(tmp_path, "well")
    assert done.returncode == 0
    assert [one["kind"] for one in done.alerts] == ["disk low"]
    assert done.recorded["run"]["usage_of_run"]["steps"] == 2


@pytest.mark.parametrize(
    ("variables", "where"),
    [
        (["LLARA_LOCAL"], "the local state lies"),
        (["LLARA_CHECKPOINTS"], "checkpoints and vectors of all pods lie"),
        (["LLARA_LOCAL", "LLARA_CHECKPOINTS"], "the local state lies"),  # one alarm is enough
        ([], None),
    ],
)
@pytest.mark.parametrize("least", [1e9, 1e-9])
def test_a_disk_that_runs_fill_is_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: list[str], where: str | None, least: float
) -> None:
    raised: list[Alert] = []
    settings = OperationsSettings(alerts=AlertSettings(minimum_free_gb=least))
    monkeypatch.setattr(hooks, "alert", raised.append)
    monkeypatch.setattr(hooks, "operations", lambda: settings)
    monkeypatch.setattr(hooks, "_told_of_disk", set())
    for name in ("LLARA_LOCAL", "LLARA_CHECKPOINTS"):
        monkeypatch.delenv(name, raising=False)
    for name in variables:
        monkeypatch.setenv(name, str(tmp_path / "not made yet"))
    for _ in range(2):
        hooks._watch_disk({"run_id": "1", "run": "training-1", "step": "mine"})
    if where is None or least < 1:
        assert raised == []
    else:
        assert [where in one.text for one in raised] == [True]


def test_a_process_holds_the_lock_of_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a killed one is known by its free lock; see ``pipelines.orphans``."""
    monkeypatch.setenv("LLARA_LOCAL", str(tmp_path))
    monkeypatch.setattr(hooks, "_runs_of_this_process", {})
    who = {"run_id": "0b5c", "run": "training-now"}
    hooks._hold(who)
    hooks._hold(who)  # the next step of the same run
    (held,) = hooks._runs_of_this_process.values()
    assert isinstance(held, Held)
    lock = orphans.lock_of(tmp_path, "0b5c")
    assert lock == held.file
    assert locked(lock)
    held.release()
    assert not locked(lock)
