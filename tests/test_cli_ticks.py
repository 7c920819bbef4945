"""``llara ticks`` lists what is in the history."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llara_core.cli.app import run
from llara_core.operations.freshness_history import append, file_of


@pytest.fixture
def local(tmp_path: Path) -> Path:
    check = {"name": "age", "passed": False, "value": 91.0, "threshold": 90.0, "words": "91 days old"}
    file = file_of(tmp_path, "m")
    for number in range(12):
        append(
            file,
            {"tick": f"t{number:02}", "time": f"2026-01-{number + 1:02}", "action": "skip", "reason": "calm"},
        )
    append(
        file, {"tick": "x", "time": "2026-02-01", "action": "train", "reason": "age: old", "checks": [check]}
    )
    append(file, {"tick": "x", "outcome": {"state": "done", "words": "version 2 was promoted"}})
    append(
        file_of(tmp_path, "n"), {"tick": "y", "time": "2026-03-01", "action": "refresh", "reason": "index"}
    )
    return tmp_path  # fmt: skip


def test_the_last_ones(local: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ticks", "--local", str(local), "-n", "3"]) == 0
    shown = capsys.readouterr().out
    assert "t11" not in shown  # names are for machines
    assert shown.splitlines() == [
        "2026-01-12  m  skip: calm",
        "2026-02-01  m  train: age: old",
        "  then: version 2 was promoted",
        "2026-03-01  n  refresh: index",
        "  then: nothing is recorded; it is at work, or was cut off",
    ]


def test_one_model_with_checks(
    local: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLARA_LOCAL", str(local))
    assert run(["ticks", "--model", "m", "--checks", "-n", "1"]) == 0
    assert "FAILS age: 91 days old" in capsys.readouterr().out


def test_json(local: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ticks", "--local", str(local), "--json", "-n", "2"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["model"], row["tick"]) for row in rows] == [("m", "x"), ("n", "y")]


def test_none_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ticks", "--local", str(tmp_path)]) == 0
    assert "python -m pipelines retraining" in capsys.readouterr().out
