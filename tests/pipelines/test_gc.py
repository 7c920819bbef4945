"""``llara gc`` on a real ZenML and MLflow state: a dry run, beside a running job, killed again and again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 300  # seconds
# Deletes all that nothing holds: every test of what stays has the strongest opponent.
EAGER = "retention: {minimum_age_days: 0, runs: 1, versions: 1, generations: 0, vectors_days: 0}\n"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]  # the first waits for a dozen processes

ASK = """
import json
from pipelines import environment
environment.apply()
import mlflow
from mlflow.entities import ViewType
from zenml.client import Client
client = mlflow.MlflowClient()
experiment = client.get_experiment_by_name("llara").experiment_id
versions = [one for model in client.search_registered_models()
            for one in client.search_model_versions(f"name = '{model.name}'")]
last = Client().list_pipeline_runs(sort_by="desc:created", hydrate=True).items[0]
print(json.dumps({
    "versions": sorted(f"{one.name}/{one.version}" for one in versions),
    "whole": all(client.list_logged_model_artifacts(one.tags["logged_model"]) for one in versions),
    "aliases": {model.name: model.aliases for model in client.search_registered_models()},
    "logged": len(client.search_logged_models([experiment])),
    "runs": sorted(one.info.run_name for one in client.search_runs([experiment], run_view_type=ViewType.ALL)
                   if not one.info.run_name.startswith("hooked")),
    "zenml": len(Client().list_pipeline_runs().items),
    "artifacts": len(Client().list_artifact_versions().items),
    "loaded": {name: one[0].load() for name, step in last.steps.items() for one in step.outputs.values()},
}))
"""
KEPT_VERSIONS = [
    "llara-adapted/1",
    "llara-adapted/3",
    *(f"llara-retriever/{one}" for one in (1, 2, 3, 4, 5, 8)),
]


@dataclass
class State:
    """A local state in a folder of its own."""

    local: Path
    log: dict[str, Any] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("ZENML_", "MLFLOW_", "LLARA_"))
        }
        return {**kept, "LLARA_LOCAL": str(self.local)}

    def run(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *arguments], cwd=REPOSITORY, env=self.environment,
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

    def gc(self, *arguments: str, moment: int = 0) -> subprocess.CompletedProcess[str]:
        settings = str(self.local / "eager.yaml")
        schedules = str(self.local / "schedules")
        return self.run(
            "tests.fixtures.collect_garbage", schedules, str(moment), "-c", settings, "--json", *arguments
        )

    def ask(self) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-c", ASK], cwd=REPOSITORY, env=self.environment, capture_output=True,
            text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def files(self) -> set[str]:
        return {
            path.relative_to(self.local).as_posix()
            for folder in ("live", "vectors", "work", "checkpoints", "artifacts/first", "artifacts/second")
            for path in (self.local / folder).rglob("*")
            if path.is_file()
        }


def listed(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return {f"{one['kind']} {one['name']}": one for one in json.loads(done.stdout)["items"]}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """All in one order, since each gc changes the state; what was seen on the way is kept in ``log``."""
    state = State(tmp_path_factory.mktemp("gc"))
    (state.local / "eager.yaml").write_text(EAGER)
    (state.local / "schedules").mkdir()
    (state.local / "schedules" / "nightly.yaml").write_text("run: {model: models:/llara-retriever/4}\n")
    built = state.run("tests.fixtures.operations_state")
    assert built.returncode == 0, built.stderr
    log = state.log
    log["before"], log["files before"] = state.ask(), state.files()
    log["dry"] = listed(state.gc())
    log["after dry"], log["files after dry"] = state.ask(), state.files()
    _beside_a_running_job(state)
    _killed(state)
    log["applied"] = listed(state.gc("--apply"))
    log["end"], log["files end"] = state.ask(), state.files()
    log["again"] = listed(state.gc("--apply"))
    yield state


def _beside_a_running_job(state: State) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.fixtures.hooked_pipeline", "wait"], cwd=REPOSITORY,
        env=state.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as job:  # fmt: skip
        until = time.monotonic() + PATIENCE
        while not (state.local / "waiting").exists() and job.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
        try:
            state.log["running"] = listed(state.gc("--apply"))
        finally:
            (state.local / "go on").touch()
        state.log["job"] = job.wait(PATIENCE)
    state.log["files after job"] = state.files()


def _killed(state: State) -> None:
    """Kill gc at one moment after the other, until one comes through."""
    state.log["killed"] = []
    for moment in (1, 2, 5):
        done = state.gc("--apply", moment=moment)
        state.log["killed"].append((done.returncode, state.ask()))


def test_a_dry_run_deletes_nothing(state: State) -> None:
    assert state.log["after dry"] == state.log["before"]
    assert state.log["files after dry"] == state.log["files before"]
    assert any(one["keep"] is None for one in state.log["dry"].values())
    assert not any(one["deleted"] for one in state.log["dry"].values())


def test_the_reasons_name_who_needs_what(state: State) -> None:
    reasons = {name: one["keep"] for name, one in state.log["dry"].items()}
    model = "model version llara-retriever"
    assert reasons[f"{model}/2"] == "alias champion" or "live pointer" in reasons[f"{model}/2"]
    assert reasons[f"{model}/1"] == "alias previous"
    assert reasons[f"{model}/3"] == "the live pointer names it"
    assert reasons[f"{model}/4"] == "a schedule uses it"
    assert reasons[f"{model}/5"] == "alias challenger"
    assert reasons[f"{model}/8"] == "among the newest 1"
    assert (reasons[f"{model}/6"], reasons[f"{model}/7"]) == (None, None)
    assert reasons["model version llara-adapted/1"] == "llara-retriever/5 was made from it"
    assert reasons["model version llara-adapted/2"] is None
    assert reasons["live generation llara-retriever/g2"] == "the live pointer names it"
    assert reasons["live generation llara-retriever/g3"] is None
    assert reasons["MLflow run llara-retriever-4"] == "llara-retriever/4 was made by it"


def test_a_running_job_loses_nothing(state: State) -> None:
    assert state.log["job"] == 0
    running = state.log["running"]
    for name, one in running.items():
        if name.split()[0] in ("ZenML", "artifact", "work", "checkpoints", "logged"):
            assert one["keep"], name
    assert {
        "work/adapted-0123456789ab/model.bin",
        "checkpoints/adapt/run-0123456789ab/model.bin",
    } <= state.log["files after job"]


def test_killed_at_any_moment_nothing_in_use_is_lost(state: State) -> None:
    codes = [code for code, _ in state.log["killed"]]
    assert codes[:2] == [-signal.SIGKILL] * 2
    for _, seen in state.log["killed"]:
        assert set(KEPT_VERSIONS) <= set(seen["versions"])
        assert seen["whole"]
        assert seen["aliases"] == state.log["before"]["aliases"]
        assert seen["loaded"] == {"first": [1, 2, 3], "second": 6}


def test_in_the_end_only_what_is_needed_is_left(state: State) -> None:
    end = state.log["end"]
    assert end["versions"] == sorted(KEPT_VERSIONS)
    assert end["whole"]
    assert end["logged"] == len(KEPT_VERSIONS)
    assert end["runs"] == sorted(one.replace("/", "-") for one in KEPT_VERSIONS)
    assert (end["zenml"], end["artifacts"]) == (1, 2)
    assert end["loaded"] == {"first": [1, 2, 3], "second": 6}
    left = {
        name.split("/")[2] for name in state.log["files end"] if name.startswith("live/llara-retriever/g")
    }
    assert left == {"g1", "g2"}
    assert not any(name.startswith(("work/", "checkpoints/")) for name in state.log["files end"])
    assert sum(name.startswith("vectors/") for name in state.log["files end"]) == 1


def test_a_second_gc_finds_nothing(state: State) -> None:
    assert not [name for name, one in state.log["again"].items() if one["keep"] is None]
