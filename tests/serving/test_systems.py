from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from llara_core.errors import ModelError
from llara_core.operations.live import LiveStore, Pair
from llara_core.retrieval.index import Index
from llara_core.search_page_settings import SearchPageSettings
from llara_core.serving.served import Served
from llara_core.serving.systems import Systems
from llara_core.serving.waiting import Dense, Waiting
from tests.operations.live_stories import PASSAGES, serve
from tests.oracles.fake_encoder import FakeEncoder
from tests.serving.service_stories import until


class Opener:
    """Opens pairs as slowly as it is told, and remembers what it did."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.go = threading.Event()
        self.at_once = self.most = 0
        self.error: Exception | None = None

    def __call__(self, pair: Pair) -> Served:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        assert self.go.wait(30)
        self.at_once -= 1
        self.opened.append(pair.version)
        if self.error is not None:
            raise self.error
        encoder: Any = FakeEncoder(32, pair.fingerprint)
        return Served(pair.name, pair.version, encoder, Index.open(pair.index))


@pytest.fixture(scope="module")
def store(work: Path, tmp_path_factory: pytest.TempPathFactory) -> LiveStore:
    """Four generations of one model over growing corpora; all of them are kept."""
    folder = tmp_path_factory.mktemp("store")
    for version in ("1", "2", "3", "4"):
        serve(folder, work / "adapted", version, [f"{text} {version}" for text in PASSAGES])
    return LiveStore(folder)


@pytest.fixture
def opener() -> Opener:
    return Opener()


@pytest.fixture
def systems(store: LiveStore, opener: Opener, tmp_path: Path) -> Any:
    opener.go.set()
    current = store.current()
    assert current is not None
    champion = opener(current)
    opener.opened.clear()
    made = Systems(lambda: champion, store, tmp_path, SearchPageSettings(open_generations=2), opener)
    yield made
    opener.go.set()
    made.close()


def _name(store: LiveStore, version: str) -> str:
    return next(pair.name for pair in store.generations() if pair.version == version)


def _wait(systems: Systems, name: str) -> Dense:
    until(lambda: isinstance(systems.find(name), Dense))
    found = systems.find(name)
    assert isinstance(found, Dense)
    return found


def test_a_generation_is_opened_when_it_is_asked_for_and_nobody_waits(
    systems: Systems, store: LiveStore, opener: Opener
) -> None:
    opener.go.clear()
    name = _name(store, "1")
    found = [systems.find(name) for _ in range(5)]
    assert {one.state for one in found if isinstance(one, Waiting)} == {"opening"}
    assert isinstance(systems.find("champion"), Dense)  # meanwhile
    listed = {one.id: one for one in systems.listed()}
    assert (listed[name].state, listed[_name(store, "2")].state) == ("opening", "closed")
    opener.go.set()
    dense = _wait(systems, name)
    assert opener.opened == ["1"]
    assert [dense.id_of(row) for row in dense.search("matter 3", 3).rows]


def test_what_was_opened_meanwhile_is_not_opened_again(
    systems: Systems, store: LiveStore, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    opener.go.clear()
    name, generations = _name(store, "1"), systems._generations
    assert isinstance(systems.find(name), Waiting)

    def slow() -> list[Pair]:
        opener.go.set()
        until(lambda: name in systems._open)
        return generations()

    monkeypatch.setattr(systems, "_generations", slow)
    assert isinstance(systems.find(name), Dense)
    systems.close()  # waits for whatever is being opened
    assert opener.opened == ["1"]


def test_the_one_not_used_for_longest_makes_room_and_one_is_opened_at_a_time(
    systems: Systems, store: LiveStore, opener: Opener
) -> None:
    one, two, three = (_name(store, version) for version in "123")
    for name in (one, two, one):
        _wait(systems, name)
    _wait(systems, three)  # two goes
    assert isinstance(systems.find(one), Dense)
    assert isinstance(systems.find(two), Waiting)
    assert opener.opened[:3] == ["1", "2", "3"]
    assert opener.most == 1


def test_the_champion_s_own_generation_is_not_opened_twice(
    systems: Systems, store: LiveStore, opener: Opener
) -> None:
    found = systems.find(_name(store, "4"))
    assert isinstance(found, Dense)
    assert found.served is systems.champion()
    assert not opener.opened


def test_what_cannot_be_opened_is_told_and_tried_again_later(
    systems: Systems, store: LiveStore, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (ModelError("changed"), RuntimeError("CUDA out of memory")):
        opener.error, name = error, _name(store, "1")
        deadline = time.monotonic() + 30
        while (found := systems.find(name)) is None or getattr(found, "state", "") != "failed":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert isinstance(found, Waiting)
        assert str(error) in found.message
        tried = len(opener.opened)
        assert systems.find(name) == found
        assert len(opener.opened) == tried
        later = time.monotonic() + 3600
        monkeypatch.setattr("llara_core.serving.waiting.time.monotonic", lambda later=later: later)
        assert getattr(systems.find(name), "state", "") == "opening"
        monkeypatch.undo()
        opener.error = None
        _wait(systems, name)
        for version in ("2", "3"):  # makes room
            _wait(systems, _name(store, version))


def test_no_such_system(systems: Systems) -> None:
    for name in ("", "v9", "../live", "champion ", "\ud800"):
        assert systems.find(name) is None


def test_a_list_without_a_champion_is_empty(store: LiveStore, tmp_path: Path, opener: Opener) -> None:
    systems = Systems(lambda: None, store, tmp_path, SearchPageSettings(), opener)
    assert systems.listed() == []
    assert isinstance(systems.find("champion"), Waiting)
    systems.close()
