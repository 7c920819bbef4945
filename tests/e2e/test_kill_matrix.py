"""The training is killed in every one of its steps, at three moments each; the same command finishes it.

One state is carried through all kills of one kind, so each restart must get past the step in which the last
one died. Issue 6, point 5.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest

from llara_core.model.bundle import read_bundle
from steps import registry
from tests.conftest import write_tiny_beir
from tests.e2e.retraining_project import PATIENCE, REPOSITORY, Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
NAME = "llara-retriever"
# They look at the world outside, so their results are never taken from the cache.
NEVER_CACHED = {"identify", "recall", "gauge", "promote"}
MOMENTS = ("before", "inside", "storing")


class Killed(Project):
    """A project whose training is killed."""

    def launch(self, kill: str | None = None) -> tuple[int, str]:
        start = ["pipelines"] if kill is None else ["tests.e2e.killed_launcher", kill]
        done = subprocess.run(
            [sys.executable, "-u", "-m", *start, "training", "--config", "configs/tiny.yaml"], cwd=REPOSITORY,
            env=self.environment(), capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    @property
    def tracking(self) -> str:
        return f"sqlite:///{self.local / 'mlflow' / 'mlflow.db'}"

    def metrics(self) -> dict[str, float]:
        """Scores of the run that finished."""
        client = mlflow.MlflowClient(self.tracking)
        experiment = client.get_experiment_by_name("llara")
        runs = client.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED'")
        assert runs
        return {key: value for key, value in runs[0].data.metrics.items() if key.startswith("tiny/")}

    def versions(self) -> list[str]:
        """Registered versions, each of them whole: all tags, and a bundle whose every byte is right."""
        if not (self.local / "mlflow" / "mlflow.db").exists():
            return []
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(self.tracking)
        try:
            found = registry.versions_of(NAME)
            for one in found:
                assert {"fingerprint", "collection", "data_hash", "configuration", "ndcg_at_10"} <= set(
                    one.tags
                )
                read_bundle(registry.bundle_of(NAME, str(one.version))).verify()
            return [str(one.version) for one in found]
        finally:
            mlflow.set_tracking_uri(before)

    def aliases(self) -> dict[str, str]:
        client = mlflow.MlflowClient(self.tracking)
        return {key: str(value) for key, value in client.get_registered_model(NAME).aliases.items()}


def project(folder: Path) -> Killed:
    write_tiny_beir(folder / "data")
    return Killed(folder)


def started(output: str) -> list[str]:
    return re.findall(r"Step `(\w+)` has started", output)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, float]]:
    """Steps in their order and the scores of a run that nobody kills."""
    made = project(tmp_path_factory.mktemp("calm"))
    code, output = made.launch()
    assert code == 0, output
    assert made.versions() == ["1"]
    return started(output), made.metrics()


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_in_every_step_the_same_command_finishes(
    calm: tuple[list[str], dict[str, float]], tmp_path: Path, moment: str
) -> None:
    steps, scores = calm
    assert len(steps) > 20
    made, finished = project(tmp_path), set[str]()
    for step in steps:
        code, output = made.launch(f"{step}:{moment}")
        assert code == -9, f"{step}: exit code {code}\n{output}"
        assert started(output)[-1] == step
        again = finished & set(started(output))
        assert again <= NEVER_CACHED, f"{step}: {again} had finished and ran again"
        finished |= set(re.findall(r"Step `(\w+)` has finished", output))
        assert len(made.versions()) <= 1
    code, output = made.launch()
    assert code == 0, output
    assert "Closed training-" in output
    assert finished & set(started(output)) <= NEVER_CACHED
    assert made.metrics() == scores
    assert made.versions() == ["1"]
    assert made.aliases() == {"challenger": "1", "champion": "1"}
    states: dict[str, Any] = made.ask(
        """
import json, mlflow
from collections import Counter
from zenml.client import Client
runs = Client().list_pipeline_runs(size=100).items
client = mlflow.MlflowClient()
tracked = client.search_runs([client.get_experiment_by_name("llara").experiment_id])
print(json.dumps({"zenml": Counter(str(run.status.value) for run in runs),
                  "mlflow": Counter(run.info.status for run in tracked)}))
"""
    )
    assert states["zenml"] == {"failed": len(steps), "completed": 1}
    assert set(states["mlflow"]) <= {"KILLED", "FINISHED"}
    assert states["mlflow"]["FINISHED"] == 1
