"""Cutting off a process at any of its writes to the model registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlflow
import pytest

WRITES = (
    "set_model_version_tag", "set_registered_model_tag", "set_registered_model_alias",
    "delete_registered_model_tag",
)  # fmt: skip


class Killed(BaseException):
    """What a SIGKILL would cut off, so that no handler of ours catches it."""


def cut_off(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object], kill: int, after: bool) -> None:
    """Do some work, and end it before or after one of its writes.

    Args:
        monkeypatch: of the test.
        work: that writes to the registry.
        kill: which write, from 0.
        after: whether that write is still done.
    """
    written = 0

    def watched(method: Any) -> Any:
        def write(*given: Any, **named: Any) -> Any:
            nonlocal written
            written += 1
            if written == kill + 1 and not after:
                raise Killed
            method(*given, **named)
            if written == kill + 1:
                raise Killed

        return write

    with monkeypatch.context() as patch:
        for name in WRITES:
            patch.setattr(mlflow.MlflowClient, name, watched(getattr(mlflow.MlflowClient, name)))
        with pytest.raises(Killed):
            work()
    assert written == kill + 1
