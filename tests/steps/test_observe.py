"""What a tick knows of earlier work: versions that were judged, ticks that were cut off."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llara_core.config import TrainingSettings
from llara_core.operations.freshness_history import append
from llara_core.retraining_settings import RetrainingSettings
from steps import observe, registry, tick_state

TRAINING: dict[str, Any] = {"parameters": {"seed": 3, "model": {"from_scratch": {"layers": 1}}}}
DATA: Any = SimpleNamespace(content_hash="now")


def configuration(**changes: Any) -> str:
    told = TrainingSettings.parse({**TRAINING["parameters"], **changes}, "")
    return json.dumps(told.model_dump(mode="json", exclude={"promote"}))


JUDGED = {
    "data_hash": "now", "configuration": configuration(), "promoted": "false",
    registry.REASON: "primary: worse", registry.VERDICT: json.dumps({"checks": [{}]}),
}  # fmt: skip


def tried(monkeypatch: pytest.MonkeyPatch, **tags: str | None) -> str | None:
    made = {key: value for key, value in {**JUDGED, **tags}.items() if value is not None}
    version = SimpleNamespace(version=4, tags=made)
    monkeypatch.setattr(registry, "versions_of", lambda name: [version])
    return observe._tried("m", SimpleNamespace(version=2), TRAINING, RetrainingSettings(), DATA)


def test_what_was_judged_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tried(monkeypatch) == (
        "version 4 was trained on the same data with the same settings and refused (primary: worse)"
    )
    assert "and promoted" in str(tried(monkeypatch, promoted="true", **{registry.VERDICT: None}))


@pytest.mark.parametrize(
    "tags",
    [
        {"data_hash": "before"},
        {"configuration": configuration(seed=4)},
        {"promoted": None, registry.VERDICT: None},  # killed before the gate
        {registry.VERDICT: json.dumps({"checks": []})},  # the champion changed while it was judged
    ],
)
def test_what_would_be_new(monkeypatch: pytest.MonkeyPatch, tags: dict[str, Any]) -> None:
    assert tried(monkeypatch, **tags) is None


def test_the_gates_rules_are_no_settings_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tried(monkeypatch, configuration=configuration(promote={"level": 0.2})) is not None


def test_from_another_champion_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    version = SimpleNamespace(version=4, tags=JUDGED)
    monkeypatch.setattr(registry, "versions_of", lambda name: [version])
    settings = RetrainingSettings(start="champion")
    assert observe._tried("m", SimpleNamespace(version=2), TRAINING, settings, DATA) is None


def test_a_tick_that_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLARA_LOCAL", str(tmp_path))
    tick = {"tick": "second"}
    assert observe._unfinished("m", tick, DATA) is None
    append(tick_state.history("m"), {"tick": "first", "action": "train", "data_hash": "now"})
    assert "taken from the cache" in str(observe._unfinished("m", tick, DATA))
    changed: Any = SimpleNamespace(content_hash="later")
    assert "superseded" in str(observe._unfinished("m", tick, changed))
    append(tick_state.history("m"), {"tick": "first", "outcome": {"state": "done"}})
    assert observe._unfinished("m", tick, DATA) is None


def test_the_lock_is_this_processes_until_it_lets_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLARA_LOCAL", str(tmp_path))
    held = tick_state.hold("m", "run")
    assert tick_state.hold("m", "run") is held
    assert (tmp_path / "locks" / "retraining-m.json").exists()
    tick_state.release("m")
    tick_state.release("m")
    assert not (tmp_path / "locks" / "retraining-m.json").exists()
