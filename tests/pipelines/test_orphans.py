"""Runs whose process was killed are closed; those that somebody works on are not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from zenml.enums import StackComponentType

from llara_core.operations.lock import Held, take
from pipelines import orphans

NOW = datetime.now(timezone.utc)


class Zenml:
    """A client that knows some open runs, and what is done to them."""

    def __init__(self) -> None:
        self.runs: list[Any] = []
        self.updated: list[tuple[str, str]] = []
        self.zen_store = SimpleNamespace(
            update_run=lambda run, update: self.updated.append((run, update.status.value)),
            update_run_step=lambda step, update: self.updated.append((step, update.status.value)),
        )

    def list_pipeline_runs(self, **_: Any) -> Any:
        return SimpleNamespace(items=self.runs)

    def add(
        self, name: str, age: timedelta = timedelta(0), steps: int = 1, orchestrator: str = "local"
    ) -> None:
        state = SimpleNamespace(is_finished=False)
        done = SimpleNamespace(is_finished=True)
        made = {
            f"s{number}": SimpleNamespace(id=f"{name}-s{number}", status=state) for number in range(steps)
        }
        if made:
            made["done"] = SimpleNamespace(id=f"{name}-done", status=done)
        created = (NOW - age).replace(tzinfo=None)
        components = {StackComponentType.ORCHESTRATOR: [SimpleNamespace(flavor_name=orchestrator)]}
        stack = SimpleNamespace(components=components)
        self.runs.append(SimpleNamespace(id=name, name=name, steps=made, created=created, stack=stack))


@pytest.fixture
def zenml(monkeypatch: pytest.MonkeyPatch) -> Zenml:
    import zenml.client

    made = Zenml()
    monkeypatch.setattr(zenml.client, "Client", lambda: made)
    monkeypatch.setattr(orphans, "_close_in_mlflow", lambda names: None)
    return made


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    found = take(orphans.lock_of(tmp_path, "alive"), "alive")
    assert isinstance(found, Held)
    yield found
    found.release()


def test_only_runs_whose_lock_is_free_are_closed(zenml: Zenml, held: Held, tmp_path: Path) -> None:
    zenml.add("alive")
    zenml.add("dead")
    zenml.add("of another machine", timedelta(days=30))
    zenml.add("not begun yet", timedelta(hours=1), steps=0)
    zenml.add("never begun", timedelta(days=2), steps=0)
    orphans.lock_of(tmp_path, "dead").touch()
    orphans.lock_of(tmp_path, "finished long ago").touch()
    assert orphans.close(tmp_path) == ["dead", "never begun"]
    assert zenml.updated == [("dead-s0", "failed"), ("dead", "failed"), ("never begun", "failed")]
    assert [path.name for path in (tmp_path / "locks").glob("*.lock")] == ["run-alive.lock"]


def test_a_killed_process_lets_go_by_itself(zenml: Zenml, held: Held, tmp_path: Path) -> None:
    zenml.add("alive")
    assert orphans.close(tmp_path) == []
    held.release()
    assert orphans.close(tmp_path) == ["alive"]


def test_runs_of_a_cluster_are_not_judged_by_locks(zenml: Zenml, tmp_path: Path) -> None:
    """Its steps are processes of their own: between two of them the lock is free and the run goes on."""
    zenml.add("between two steps", orchestrator="kubernetes")
    zenml.add("waits for a GPU", timedelta(days=2), steps=0, orchestrator="kubernetes")
    lock = orphans.lock_of(tmp_path, "between two steps")
    lock.parent.mkdir()
    lock.touch()
    assert orphans.close(tmp_path) == []
    assert zenml.updated == []
