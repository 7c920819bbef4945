"""An MLflow server that goes away during a training: for a moment, and until somebody brings it back."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

from tests.conftest import write_tiny_beir
from tests.e2e.retraining_project import PATIENCE, REPOSITORY, Project, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


class Server:
    """``mlflow server`` on a port of this machine, which can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.folder, self.address = folder, f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        self.start()

    def start(self) -> None:
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port),
            "--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}",
            "--artifacts-destination", str(self.folder / "artifacts"), "--workers", "1",
        ]  # fmt: skip
        log = (self.folder / "server.log").open("ab")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.address}/health", timeout=5) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.5)
        raise AssertionError((self.folder / "server.log").read_text())

    def stop(self) -> None:
        import os
        import signal

        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=60)
            self.process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "server")
    yield made
    made.stop()


class Tracked(Project):
    """A project that is tracked by the server."""

    address: str = ""

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "MLFLOW_TRACKING_URI": ADDRESS[0],
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": RETRIES[0],
            "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        }

    def begin(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "pipelines", "training", "--config", "configs/tiny.yaml"],
            cwd=REPOSITORY, env=self.environment(), text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


ADDRESS, RETRIES = [""], ["7"]


def runs(address: str) -> list[Any]:
    client = mlflow.MlflowClient(address)
    experiment = client.get_experiment_by_name("llara")
    return list(client.search_runs([experiment.experiment_id]))


def test_mlflow_goes_away_and_comes_back(server: Server, tmp_path: Path) -> None:
    write_tiny_beir(tmp_path / "data")
    ADDRESS[0], project = server.address, Tracked(tmp_path)

    RETRIES[0] = "7"  # MLflow's own default: minutes of patience
    process = project.begin()
    until(process, "Step `adapt` has started")
    server.stop()
    time.sleep(5)  # training meanwhile wants to log
    server.start()
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    (run,) = runs(server.address)
    scores = {key: value for key, value in run.data.metrics.items() if key.startswith("tiny/")}
    assert scores
    history = mlflow.MlflowClient(server.address).get_metric_history(run.info.run_id, "adapt/loss")
    assert sorted(one.step for one in history) == [1, 2, 3, 4]

    RETRIES[0] = "1"  # now nobody brings it back while we wait
    project.change(3, "Another text.")
    process = project.begin()
    until(process, "Step `adapt` has started")
    server.stop()
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, output
    assert f"MLflow at 127.0.0.1:{server.port} does not answer; bring it back" in output

    server.start()
    process = project.begin()
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert "Using cached version of step `prepare`" in output
    newest = max(runs(server.address), key=lambda run: run.info.start_time)
    assert newest.info.status == "FINISHED"
    assert {key for key in newest.data.metrics if key.startswith("tiny/")} == set(scores)
    versions = mlflow.MlflowClient(server.address).search_model_versions("name = 'llara-retriever'")
    assert sorted(str(one.version) for one in versions) == ["1", "2"]
