"""The cutover: what the canary said is done, unless the world has changed since."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llara_core.operations.live import LiveError, LiveStore
from steps import cutover as step
from steps.canary import _nothing_to_do
from tests.operations.live_stories import REVISED, serve, staged, whole

ACCEPTED = {"action": "cutover", "reason": "all checks hold", "checks": []}


class World:
    """A store whose version 1 serves, a pair that is staged, and the version that is to serve."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.store, self.wanted = LiveStore(folder), "1"
        serve(folder, bundle, "1")
        pair = staged(folder, bundle, "1", REVISED).pair
        current = self.store.current()
        assert current is not None
        self.chosen: dict[str, Any] = {"name": "m", "store": str(folder), "live": current.name}
        self.staged: dict[str, Any] = {"generation": pair.name, "version": "1", "how": "refreshed"}

    def follow(self, verdict: dict[str, Any] | None = None, again: bool = False) -> dict[str, Any]:
        return step._follow(self.store, self.chosen, self.staged, verdict or ACCEPTED, again)


@pytest.fixture
def world(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path / "store", work / "finetuned")
    monkeypatch.setattr(step, "servable", lambda name: SimpleNamespace(version=made.wanted))
    monkeypatch.setattr(step, "settle", lambda store, name: None)
    monkeypatch.setattr(step, "_mark", lambda *_: None)
    return made


def test_accepted_serves_and_again_changes_nothing(world: World) -> None:
    outcome = world.follow()
    assert outcome["state"] == "live"
    assert outcome["words"].startswith("version 1 serves with 12 documents (v1-")
    assert whole(world.store.folder) == world.staged["generation"]
    pointer = world.store.pointer()
    assert world.follow()["state"] == "live"  # the step was killed after the rename, and is run again
    assert world.store.pointer() == pointer


def test_refused_stays_as_it_was(world: World) -> None:
    outcome = world.follow({"action": "refuse", "reason": "self: too few", "checks": []})
    assert outcome["state"] == "refused"
    assert outcome["words"].endswith(f"self: too few; {world.chosen['live']} still serves")
    assert whole(world.store.folder) == world.chosen["live"]


def test_another_champion_meanwhile(world: World) -> None:
    world.wanted = "2"
    outcome = world.follow()
    assert outcome["state"] == "superseded"
    assert outcome["words"].startswith("version 2 is to serve now")
    assert whole(world.store.folder) == world.chosen["live"]


def test_another_pair_meanwhile(world: World, work: Path) -> None:
    other = serve(world.store.folder, work / "finetuned", "7").pair
    outcome = world.follow()
    assert outcome["state"] == "superseded"
    assert outcome["words"].startswith(f"{other.name} serves now, {world.chosen['live']} did when")
    assert whole(world.store.folder) == other.name


def test_what_was_taken_back_is_not_looked_at_again(world: World) -> None:
    world.follow()
    world.store.rollback("empty answers")
    verdict = _nothing_to_do(world.store, world.staged, again=False)
    assert verdict is not None
    assert verdict.action == "keep"
    assert "was rolled back" in verdict.reason
    assert world.follow(verdict.to_dict())["state"] == "kept"
    with pytest.raises(LiveError, match="was rolled back"):  # should it come to that all the same
        world.follow()
    assert _nothing_to_do(world.store, world.staged, again=True) is None
    assert world.follow(again=True)["state"] == "live"


def test_what_serves_already_is_not_looked_at(world: World) -> None:
    verdict = _nothing_to_do(world.store, {**world.staged, "how": "unchanged"}, again=False)
    assert verdict is not None
    assert verdict.reason.endswith("serves already: the same model, the same corpus")
