from __future__ import annotations

import json
import os
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from unittest import mock

import pytest

from llara_core.cli.app import run
from llara_core.cli.project import find_project, run_module
from llara_core.errors import ConfigError
from llara_core.operations.schedules_tick import State, only_one

ROOT = Path(__file__).resolve().parents[1]
YAML = "pipeline: training\nconfig: configs/tiny.yaml\ncron: '30 2 * * *'\ntimezone: Europe/Berlin\n"
CRONTAB = """#!/bin/sh
case "$1" in
  -l) if [ -f {file} ]; then cat {file}; else echo "no crontab for tester" >&2; exit 1; fi ;;
  -) cat > {file}; echo written >> {file}.writes ;;
  *) exit 9 ;;
esac
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """State of its own, a crontab that is a file, and one schedule."""
    command = tmp_path / "crontab.sh"
    command.write_text(CRONTAB.format(file=tmp_path / "crontab"))
    command.chmod(0o755)
    monkeypatch.setenv("LLARA_CRONTAB", str(command))
    monkeypatch.setenv("LLARA_LOCAL", str(tmp_path / "local"))
    monkeypatch.setenv("LLARA_PROJECT", str(ROOT))
    monkeypatch.setenv("LLARA_ALERT_WEBHOOK", "http://127.0.0.1:9/hunter2")
    (tmp_path / "schedules").mkdir()
    (tmp_path / "schedules" / "nightly.yaml").write_text(YAML)
    return tmp_path


def schedule(place: Path, *words: str) -> int:
    folder = ["--folder", str(place / "schedules")] if words[0] in ("apply", "list") else []
    return run(["schedule", *words, *folder])


def test_applying_twice_changes_nothing(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (place / "crontab").write_bytes(b"MAILTO=me\n0 1 * * * backup %\n")
    assert schedule(place, "apply") == 0
    told = capfd.readouterr()
    assert "nightly: created" in told.out
    assert "changes its clocks" in told.err
    first, files = (place / "crontab").read_bytes(), snapshot(place / "local")
    assert first.startswith(b"MAILTO=me\n0 1 * * * backup %\n# BEGIN llara")
    assert b"configs/tiny.yaml" in first
    assert b"hunter2" not in first + b"".join(files.values())
    assert schedule(place, "apply") == 0
    assert "nothing to change" in capfd.readouterr().out
    assert (place / "crontab").read_bytes() == first
    assert snapshot(place / "local") == files
    assert (place / "crontab.writes").read_text() == "written\n"


def test_pause_resume_and_delete(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert schedule(place, "apply") == 0
    active = (place / "crontab").read_bytes()
    assert schedule(place, "pause", "nightly") == 0
    assert b"# paused: " in (place / "crontab").read_bytes()
    assert schedule(place, "apply") == 0  # does not wake it
    assert b"# paused: " in (place / "crontab").read_bytes()
    capfd.readouterr()
    assert schedule(place, "list", "--json") == 0
    [row] = json.loads(capfd.readouterr().out)
    assert (row["state"], row["next"]) == ("paused", None)
    assert schedule(place, "resume", "nightly") == 0
    assert (place / "crontab").read_bytes() == active
    assert schedule(place, "list") == 0
    assert "nightly: active" in capfd.readouterr().out
    assert schedule(place, "delete", "nightly") == 0
    assert (place / "crontab").read_bytes() == b""
    assert schedule(place, "delete", "nightly") == 2
    assert "nothing is scheduled yet" in capfd.readouterr().err


def test_a_schedule_whose_file_is_gone_is_removed(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert schedule(place, "apply") == 0
    (place / "schedules" / "nightly.yaml").unlink()
    assert schedule(place, "apply") == 0
    assert "its file is gone" in capfd.readouterr().out
    assert (place / "crontab").read_bytes() == b""


def test_a_missing_configuration_changes_nothing(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (place / "schedules" / "nightly.yaml").write_text(YAML.replace("tiny", "missing"))
    assert schedule(place, "apply") == 2
    assert "no such file" in capfd.readouterr().err
    assert not (place / "crontab").exists()


def test_credentials_are_not_recorded(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:hunter2@mlflow.example.com")
    assert schedule(place, "apply") == 2
    told = capfd.readouterr()
    assert "MLFLOW_TRACKING_URI" in told.err
    assert "hunter2" not in told.out + told.err + str(snapshot(place / "local"))


def test_a_tick_runs_what_is_due_once(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from pipelines import schedules_cron

    monkeypatch.delenv("LLARA_ALERT_WEBHOOK")
    now = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)  # due at 01:30, within the grace
    assert schedule(place, "apply") == 0
    local, state = place / "local", place / "local" / "schedules" / "nightly.state.json"
    (local / "schedule.env").write_text("GREETING=hello\n")
    script = (
        "import os; print(os.environ['GREETING'], os.environ['LLARA_LOCAL'], flush=True); raise SystemExit(3)"
    )
    monkeypatch.setattr(schedules_cron, "command", lambda _: [sys.executable, "-c", script])
    monkeypatch.setattr(schedules_cron, "utc_now", lambda: now)
    State(now).write(state)
    with mock.patch.dict(os.environ):  # a tick is a process of its own, and sets what its run needs
        assert schedules_cron.tick("nightly", local) == 0  # nothing is due
        State(now - timedelta(days=3)).write(state)
        with only_one(local / "locks" / "schedule-nightly.lock"):
            assert schedules_cron.tick("nightly", local) == 0  # the run before is at work
        assert json.loads(state.read_text())["started"] is None
        capfd.readouterr()
        assert schedules_cron.tick("nightly", local) == 3
        told = capfd.readouterr()
        assert "2 not started in time" in told.out + told.err
        assert f"hello {local}" in told.out
        found = json.loads(state.read_text())
        assert (found["started"], found["code"]) == (now.isoformat(), 3)
        assert schedules_cron.tick("nightly", local) == 0
        assert json.loads(state.read_text()) == found


def test_outside_a_checkout_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLARA_PROJECT", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="neither"):
        find_project()
    with pytest.raises(ConfigError, match="--project"):
        find_project(tmp_path)
    monkeypatch.chdir(ROOT / "tests")
    assert find_project() == ROOT
    assert run_module("llara_core.cli", ["nonsense"], ROOT) == 2


def snapshot(folder: Path) -> dict[str, bytes]:
    files = sorted(one for one in folder.rglob("*") if one.is_file()) if folder.is_dir() else []
    return {str(one.relative_to(folder)): one.read_bytes() for one in files}
