"""What a tick starts: which pipelines, with which configuration, under which lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from llara_core.operations.lock import Held, take
from llara_core.retraining_settings import RetrainingSettings
from steps import act, tick_state

TRAINING = {"parameters": {"seed": 3, "model": {"from_scratch": {"layers": 1}}}}
INDEXING = {"parameters": {"anything": 1}}
TICK = {"tick": "retraining-now", "busy": None}


class Pipelines:
    """Stands in for the launcher; remembers what it was told."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, dict[str, Any]]] = []
        self.code = 0
        self.champion: str | None = "1"

    def wait(self, command: list[str], lock: int) -> int:
        os.fstat(lock)  # it is open
        assert command[:3] == [sys.executable, "-m", "pipelines"]
        assert command[-2:] == ["--stack", "a-stack"]
        self.ran.append((command[3], yaml.safe_load(Path(command[5]).read_text(encoding="utf-8"))))
        if command[3] == "training" and self.code == 0:
            self.champion = "2"
        return self.code


@pytest.fixture
def pipelines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipelines]:
    made = Pipelines()
    promotion = {"version": "2", "promoted": True, "reason": "better"}
    output = SimpleNamespace(load=lambda: promotion)
    served = SimpleNamespace(load=lambda: {"words": "version 2 serves"})
    run = SimpleNamespace(
        steps={
            "promote": SimpleNamespace(outputs={"promotion": [output]}),
            "cutover": SimpleNamespace(outputs={"live_outcome": [served]}),
        }
    )
    client = SimpleNamespace(
        active_stack_model=SimpleNamespace(name="a-stack"), get_pipeline_run=lambda name: run
    )
    monkeypatch.setenv("LLARA_LOCAL", str(tmp_path))
    monkeypatch.setattr(act, "Client", lambda: client)
    monkeypatch.setattr(act, "_wait", made.wait)
    monkeypatch.setattr(act, "_champion", lambda name: made.champion)
    yield made
    tick_state.release("m")


def follow(action: str, settings: RetrainingSettings | None = None, champion: str | None = "1") -> Any:
    seen = {"champion": champion}
    return act._follow(TICK, seen, action, "m", TRAINING, INDEXING, settings or RetrainingSettings())


def test_train_is_training_and_then_indexing(pipelines: Pipelines) -> None:
    outcome = follow("train")
    assert [kind for kind, _ in pipelines.ran] == ["training", "indexing"]
    assert pipelines.ran[0][1] == {**TRAINING, "run_name": "retraining-now-training"}
    assert pipelines.ran[1][1] == {**INDEXING, "run_name": "retraining-now-indexing"}
    assert outcome["state"] == "done"
    assert outcome["champion"] == "2"
    assert outcome["words"] == "version 2 was trained and promoted: better; version 2 serves"


def test_refresh_is_indexing_alone(pipelines: Pipelines) -> None:
    follow("refresh")
    assert [kind for kind, _ in pipelines.ran] == ["indexing"]


def test_from_the_champion_names_its_version(pipelines: Pipelines) -> None:
    follow("train", RetrainingSettings(start="champion", from_champion={"seed": 9}))
    parameters = pipelines.ran[0][1]["parameters"]
    assert parameters["model"] == {"base": "models:/m/1"}
    assert parameters["seed"] == 9


def test_a_champion_that_changed_meanwhile(pipelines: Pipelines) -> None:
    outcome = follow("train", champion="0")
    assert outcome["state"] == "superseded"
    assert not pipelines.ran


def test_a_failure_names_what_failed(pipelines: Pipelines) -> None:
    pipelines.code = 2
    with pytest.raises(act.FollowUpError, match=r"the training .* failed \(exit code 2\)"):
        follow("train")
    pipelines.code = -9
    with pytest.raises(act.FollowUpError, match="killed by signal 9"):
        follow("refresh")


def test_between_two_processes_another_may_have_taken_the_lock(pipelines: Pipelines, tmp_path: Path) -> None:
    other = take(tmp_path / "locks" / "retraining-m.lock", "other")
    assert isinstance(other, Held)
    outcome = follow("train")
    other.release()
    assert outcome["state"] == "left"
    assert "run other" in outcome["words"]
    assert not pipelines.ran


def test_children_do_not_write_into_the_ticks_own_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "mine")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setenv("LLARA_ALERT_WEBHOOK", "kept")
    made = act.environment()
    assert "MLFLOW_RUN_ID" not in made
    assert "MLFLOW_TRACKING_URI" not in made
    assert made["LLARA_ALERT_WEBHOOK"] == "kept"
    assert made["PYTHONPATH"].split(os.pathsep)[0] == str(act.ROOT)


def test_the_exit_code_and_the_lock_of_a_real_child(tmp_path: Path) -> None:
    held = take(tmp_path / "one.lock", "mine")
    assert isinstance(held, Held)
    program = f"import os, sys; os.fstat({held.handle}); sys.exit(7)"
    assert act._wait([sys.executable, "-c", program], held.handle) == 7
    held.release()


def test_stopped_it_stops_the_child_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = take(tmp_path / "one.lock", "mine")
    assert isinstance(held, Held)
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def remember(*arguments: Any, **named: Any) -> Any:
        process = real(*arguments, **named)
        started.append(process)
        waiting = process.wait

        def interrupted(timeout: float | None = None) -> int:
            process.wait = waiting  # type: ignore[method-assign]
            raise KeyboardInterrupt

        process.wait = interrupted  # type: ignore[assignment]
        return process

    monkeypatch.setattr(act.subprocess, "Popen", remember)
    with pytest.raises(KeyboardInterrupt):
        act._wait([sys.executable, "-c", "import time; time.sleep(600)"], held.handle)
    assert started[0].returncode == -signal.SIGTERM
    held.release()
