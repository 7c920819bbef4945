"""Ticks of the retraining through the real launcher, each in a process of its own, on a tiny collection.

One state is carried through the whole story: the first training, a calm tick, two at once, kills, new data.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from llara_core.operations.lock import Held, holder, take
from tests.conftest import write_tiny_beir
from tests.e2e.retraining_project import (
    PATIENCE,
    REPOSITORY,
    Project,
    kill_all,
    until,
    wait_for_lock,
    what_is_recorded,
)


def test_while_another_is_at_work_a_tick_is_recorded_and_does_nothing(tmp_path: Path) -> None:
    write_tiny_beir(tmp_path / "data")
    project = Project(tmp_path)
    held = take(project.lock, "the-other-run")
    assert isinstance(held, Held)
    held.note("training")
    try:
        output = project.tick()
    finally:
        held.release()
    assert "the-other-run" in output
    (tick,) = project.ticks()
    assert tick["action"] == "skip"
    assert tick["reason"].startswith(f"run the-other-run (process {os.getpid()} on ")
    assert tick["reason"].endswith(", training) is under way")
    recorded = what_is_recorded(project)
    assert recorded["verdict"]["reason"] == tick["reason"]
    assert recorded["tags"]["tick"] == "skip"
    assert {"tick.md", "tick.json"} <= set(recorded["artifacts"])
    assert recorded["aliases"] == {}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("project")
    write_tiny_beir(root / "data")
    return Project(root)


@pytest.fixture(scope="module")
def trained(project: Project) -> Project:
    """After the first tick."""
    output = project.tick()
    assert "Decided    train: champion: there is no champion yet" in output
    return project


@pytest.mark.slow
def test_the_first_tick_trains_and_the_second_skips(trained: Project) -> None:
    (first,) = trained.ticks()
    assert first["action"] == "train"
    assert first["outcome"]["state"] == "done"
    assert "version 1 was trained and promoted" in first["outcome"]["words"]
    recorded = what_is_recorded(trained)
    assert recorded["aliases"]["champion"] == "1"
    assert recorded["status"] == "completed"
    assert recorded["metadata"]["action"] == recorded["tags"]["tick"] == "train"

    trained.tick()
    second = trained.ticks()[-1]
    assert second["action"] == "skip"
    assert {one["name"]: one["passed"] for one in second["checks"]}["documents"] is True
    recorded = what_is_recorded(trained)
    assert recorded["runs"] == 2
    assert recorded["tags"]["tick"] == "skip"
    assert recorded["metrics"]["tick/documents"] == 0
    assert recorded["metrics"]["tick/documents_threshold"] == pytest.approx(0.1)
    assert recorded["steps"]["ingest"] == "cached"


@pytest.mark.slow
def test_a_killed_tick_is_taken_over_and_goes_on(trained: Project) -> None:
    trained.change(10, "Revised once.")
    killed = trained.start()
    until(killed, "Step `mine` has started")
    kill_all(killed)
    output = trained.tick()
    assert "ended without letting go of its lock" in output
    assert "Using cached version of step `adapt`" in output
    before, tick = trained.ticks()[-2:]
    assert before["action"] == tick["action"] == "train"
    assert tick["reason"].startswith("documents: since the champion was trained 0 new, 10 changed, 0 removed")
    assert "outcome" not in before
    assert tick["crashed"].startswith(f"run {before['tick']}")
    words = {one["name"]: one["words"] for one in tick["checks"]}["unfinished"]
    assert words == (
        f"{before['tick']} decided to train and did not end well; the data are the same, so what it finished "
        "is taken from the cache"
    )
    assert tick["outcome"]["state"] == "done"


@pytest.mark.slow
def test_two_at_once_give_one_training(trained: Project) -> None:
    trained.change(10, "Revised twice.")
    both = [trained.start(), trained.start()]
    for one in both:
        output, _ = one.communicate(timeout=PATIENCE)
        assert one.returncode == 0, output
    # The second finds the first at work or, where that was very quick, its version judged already.
    acting, idle = sorted(trained.ticks()[-2:], key=lambda tick: str(tick["action"]), reverse=True)
    assert (acting["action"], idle["action"]) == ("train", "skip")
    assert idle["reason"].endswith("is under way") or "was trained on the same data" in idle["reason"]
    assert acting["outcome"]["state"] == "done"


@pytest.mark.slow
def test_a_training_that_outlives_its_tick_and_data_that_change(trained: Project) -> None:
    trained.change(10, "Revised a third time.")
    first = trained.start()
    until(first, "Step `prepare` has started")
    first.send_signal(signal.SIGKILL)  # the tick alone: the training that it started goes on
    trained.tick()
    first.communicate(timeout=PATIENCE)
    wait_for_lock(trained)
    one, two = trained.ticks()[-2:]
    assert (one["action"], two["action"]) == ("train", "skip")
    assert two["reason"].endswith("is under way") or "was trained on the same data" in two["reason"]
    trained.change(10, "Revised a fourth time.")
    trained.tick(start="champion", from_champion={"adapt": {"steps": 2}})
    last = trained.ticks()[-1]
    assert last["action"] == "train"
    words = {one["name"]: one["words"] for one in last["checks"]}["unfinished"]
    assert words == (
        f"{one['tick']} decided to train and did not end well; the data have changed since, so its work is "
        "superseded"
    )
    ran = yaml.safe_load((trained.local / "ticks" / "llara-retriever" / "training.yaml").read_text())
    assert ran["parameters"]["model"]["base"] == f"models:/llara-retriever/{last['champion']}"
    assert ran["parameters"]["adapt"]["steps"] == 2


@pytest.mark.slow
def test_told_to_stop_it_stops_what_it_started(trained: Project) -> None:
    trained.change(10, "Revised before it was stopped.")
    process = trained.start()
    until(process, "Step `prepare` has started")
    process.terminate()
    output, _ = process.communicate(timeout=PATIENCE)  # ends when nobody has its output open, child or parent
    assert process.returncode not in (0, None), output
    last = trained.ticks()[-1]
    assert last["action"] == "train"
    assert last.get("outcome", {}).get("state") != "done"
    wait_for_lock(trained)


@pytest.mark.slow
def test_the_plain_zenml_command_does_the_same(trained: Project) -> None:
    trained.change(2, "Revised by the plain command.")
    config = trained.configure(documents={"train_above": 0.05})
    done = subprocess.run(
        [str(Path(sys.executable).with_name("zenml")), "pipeline", "run",
         "pipelines.retraining.retraining_pipeline", "-c", str(config), "-s", "llara-local"],
        cwd=REPOSITORY, env={**trained.environment(), **variables(trained)}, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    tick = trained.ticks()[-1]
    assert tick["action"] == "train"
    assert tick["outcome"]["state"] == "done"


def variables(project: Project) -> dict[str, str]:
    """What ``.local/env`` would set."""
    found: dict[str, str] = project.ask(
        "import json, os; print(json.dumps({k: v for k, v in os.environ.items() "
        "if k.startswith(('ZENML_', 'MLFLOW_', 'LLARA_'))}))"
    )
    return found


@pytest.mark.slow
def test_data_that_cannot_be_read_fail_the_tick_and_leave_the_lock_free(trained: Project) -> None:
    whole = trained.corpus.read_bytes()
    trained.corpus.write_bytes(b'{"_id": "only", "text": ""}\n')
    try:
        process = trained.start()
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        trained.corpus.write_bytes(whole)
    assert process.returncode != 0
    tick = trained.ticks()[-1]
    assert (tick["action"], tick["outcome"]["state"]) == ("failed", "failed")
    assert "alert: [critical] tick failed" in output
    wait_for_lock(trained)
    assert holder(trained.lock) is None
