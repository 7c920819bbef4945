from __future__ import annotations

import errno
import sqlite3

import pytest

from pipelines import faults
from pipelines.__main__ import _judge


def caused(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        caused(RuntimeError("step failed"), OSError(errno.ENOSPC, "No space left on device")),
        sqlite3.OperationalError("database or disk is full"),
        RuntimeError("I/O error: No space left on device (os error 28)"),  # safetensors, written in Rust
    ],
)
def test_a_full_disk(error: Exception) -> None:
    code, words = _judge(error)
    assert code == 1
    assert words.startswith("the disk is full; make room below ")
    assert "same command" in words


class ConnectionError(Exception):
    pass


class MlflowException(Exception):
    pass


@pytest.mark.parametrize(
    "error",
    [
        caused(RuntimeError("step failed"), ConnectionError("refused")),
        MlflowException("API request to http://user:pw@mlflow:5000/api failed with exception refused"),
    ],
)
def test_mlflow_away(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:hunter2@mlflow.example.org/path")
    words = _judge(error)[1]
    assert words.startswith(
        "MLflow at mlflow.example.org does not answer; bring it back, then run the same command"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert faults.of_the_surroundings([error]) is None


def test_other_errors_are_none_of_these() -> None:
    assert faults.of_the_surroundings([ValueError("x"), OSError(errno.EACCES, "Permission denied")]) is None
