"""SIGKILL while a pair is made, put live or taken back: the old or the new one serves; again finishes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from llara_core.operations.live import LiveStore
from tests.operations.live_stories import REVISED, STORIES, other_bundle, serve, whole

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="stories run in forks")


class Child:
    """The process that forks; see ``live_child``."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.operations.live_child"], cwd=REPOSITORY, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def ask(self, story: str, store: Path, bundles: Path, kill_at: int | None) -> dict[str, Any]:
        self.send(story, store, bundles, kill_at)
        return self.answer()

    def send(self, story: str, store: Path, bundles: Path, kill_at: int | None, **more: Any) -> None:
        request = {"story": story, "store": str(store), "bundles": str(bundles), "kill_at": kill_at, **more}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    made = Child()
    yield made
    assert made.process.stdin is not None
    made.process.stdin.close()
    made.process.wait(timeout=60)


@pytest.fixture(scope="module")
def bundles(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    shutil.copytree(work / "finetuned", folder / "one")
    other_bundle(work / "finetuned", folder / "two")
    return folder


@pytest.fixture(scope="module")
def before(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose version 1 serves; in the story of the rollback, version 2 after it."""
    folder = tmp_path_factory.mktemp("before")
    serve(folder / "new_model", bundles / "one", "1")
    serve(folder / "new_corpus", bundles / "one", "1")
    serve(folder / "back", bundles / "one", "1")
    serve(folder / "back", bundles / "two", "2", REVISED)
    return folder


def check(child: Child, story: str, store: Path, bundles: Path, expected: tuple[str, str]) -> None:
    """After the kill: what serves is whole; the same story again finishes and leaves nothing half done."""
    assert whole(store) in expected
    answer = child.ask(story, store, bundles, None)
    assert answer["code"] == 0, answer
    assert whole(store) == expected[1]
    left = {one.name for one in store.iterdir() if one.name.endswith((".partial", ".vectors"))}
    # The name of who held the pointer's lock, written beside it for people; ``llara gc`` takes it.
    assert not {name for name in left if not name.startswith("..pointer.json.")}
    previous = LiveStore(store).previous()
    assert (previous is None) == (story == "back")
    if previous is not None:
        assert previous.name == expected[0]


def told(child: Child, story: str, before: Path, bundles: Path, folder: Path) -> tuple[int, tuple[str, str]]:
    """How many file operations the story has when nobody kills it, and what serves before and after."""
    store = Path(shutil.copytree(before / story, folder / "calm"))
    old = whole(store)
    answer = child.ask(story, store, bundles, None)
    assert answer["code"] == 0, answer
    return int(answer["operations"]), (old, whole(store))


def killed_at(
    child: Child,
    story: str,
    before: Path,
    bundles: Path,
    folder: Path,
    places: list[int],
    names: tuple[str, str],
) -> None:
    for place in places:
        store = Path(shutil.copytree(before / story, folder / f"at-{place}"))
        answer = child.ask(story, store, bundles, place)
        assert answer["signal"] == signal.SIGKILL, f"operation {place} was never reached: {answer}"
        check(child, story, store, bundles, names)
        shutil.rmtree(store)


@pytest.mark.parametrize("story", STORIES)
def test_killed_before_some_file_operations(
    child: Child, before: Path, bundles: Path, tmp_path: Path, story: str
) -> None:
    count, names = told(child, story, before, bundles, tmp_path)
    assert count > 5
    assert names[0] != names[1]
    places = sorted({1, count // 3, count // 2, count - 3, count - 2, count - 1, count})
    killed_at(child, story, before, bundles, tmp_path, places, names)


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES)
def test_killed_before_every_file_operation(
    child: Child, before: Path, bundles: Path, tmp_path: Path, story: str
) -> None:
    count, names = told(child, story, before, bundles, tmp_path)
    killed_at(child, story, before, bundles, tmp_path, list(range(1, count + 1)), names)


@pytest.mark.slow
def test_killed_at_fifty_random_moments(child: Child, before: Path, bundles: Path, tmp_path: Path) -> None:
    chance, story = random.Random(6), "new_model"
    started = time.monotonic()
    _, names = told(child, story, before, bundles, tmp_path)
    length, hit = time.monotonic() - started, 0
    for moment in range(50):
        store = Path(shutil.copytree(before / story, tmp_path / f"moment-{moment}"))
        child.send(story, store, bundles, None, tell_pid=True)
        pid = child.answer()["pid"]
        time.sleep(chance.random() * length)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        hit += child.answer()["signal"] == signal.SIGKILL
        check(child, story, store, bundles, names)
        shutil.rmtree(store)
    assert hit  # how many depends on the machine; the test above is the one that leaves no gap
