"""The live store: what serves, cutovers, rollbacks, and what is refused."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from llara_core.errors import DataError, ModelError
from llara_core.operations.live import LiveError, LiveStore
from llara_core.operations.live_pointer import POINTER
from llara_core.operations.retention_use import live_pairs
from tests.operations.live_stories import REVISED, other_bundle, serve, staged, whole


@pytest.fixture
def one(work: Path) -> Path:
    return work / "finetuned"


@pytest.fixture
def two(work: Path, tmp_path: Path) -> Path:
    return other_bundle(work / "finetuned", tmp_path / "two")


@pytest.fixture
def served(one: Path, two: Path, tmp_path: Path) -> LiveStore:
    """Version 1 served, version 2 does."""
    serve(tmp_path / "store", one, "1")
    serve(tmp_path / "store", two, "2")
    return LiveStore(tmp_path / "store")


def test_an_empty_store_says_so(tmp_path: Path) -> None:
    store = LiveStore(tmp_path / "nothing")
    assert store.current() is None
    assert store.generations() == []
    with pytest.raises(LiveError, match="nothing is live yet; run `python -m pipelines indexing`"):
        store.open()
    with pytest.raises(LiveError, match="nothing is live, so there is nothing to roll back"):
        store.rollback("why not")
    assert not store.folder.joinpath(POINTER).exists()


def test_a_cutover_moves_model_and_index_together(served: LiveStore) -> None:
    current, previous = served.current(), served.previous()
    assert current is not None
    assert previous is not None
    assert (current.version, previous.version) == ("2", "1")
    retriever, index = served.open()
    assert retriever.fingerprint == index.fingerprint["model"] == current.fingerprint
    assert [event["action"] for event in served.pointer().history] == ["cutover", "cutover"]
    assert served.pointer().history[1]["from"] == previous.name


def test_gc_reads_the_same_pointer(served: LiveStore) -> None:
    pairs = live_pairs(served.folder)
    assert pairs is not None
    assert [one["version"] for one in pairs] == ["2", "1"]
    assert all((served.folder / one["folder"]).is_dir() for one in pairs)


def test_the_store_may_be_moved(served: LiveStore, tmp_path: Path) -> None:
    served.folder.rename(tmp_path / "elsewhere")
    assert whole(tmp_path / "elsewhere").startswith("v2-")


def test_a_cutover_that_was_judged_against_another_is_refused(
    served: LiveStore, one: Path, tmp_path: Path
) -> None:
    fresh = staged(served.folder, one, "3").pair
    with pytest.raises(LiveError, match="run the indexing again"):
        served.cutover(fresh, "v1-long-gone", "late")
    with pytest.raises(LiveError, match="nothing did when"):
        served.cutover(fresh, None, "late")
    assert whole(served.folder).startswith("v2-")


def test_a_cutover_to_what_serves_changes_nothing(served: LiveStore) -> None:
    before = (served.folder / POINTER).read_bytes()
    current = served.current()
    assert current is not None
    served.cutover(current, "whatever", "again")
    assert (served.folder / POINTER).read_bytes() == before


def test_a_rollback_brings_both_back_and_owes_the_registry(served: LiveStore) -> None:
    pointer = served.rollback("empty answers")
    assert whole(served.folder).startswith("v1-")
    assert pointer.owed is not None
    assert (pointer.owed.champion, pointer.owed.left, pointer.owed.reason) == ("1", "2", "empty answers")
    served.settled(pointer.owed)
    assert served.pointer().owed is None


def test_twice_never_goes_further(served: LiveStore) -> None:
    served.rollback("empty answers")
    with pytest.raises(
        LiveError, match=r"brought back by a rollback already .*empty answers.*--to GENERATION"
    ):
        served.rollback("again")
    assert whole(served.folder).startswith("v1-")


def test_what_was_taken_back_comes_back_only_when_told(served: LiveStore) -> None:
    left = served.current()
    owed = served.rollback("empty answers").owed
    current = served.current()
    assert left is not None
    assert current is not None
    with pytest.raises(LiveError, match="a rollback is not finished in the registry"):
        served.cutover(left, current.name, "night")
    assert owed is not None
    served.settled(owed)
    with pytest.raises(LiveError, match=r"was rolled back .*empty answers"):
        served.cutover(left, current.name, "night")
    served.cutover(left, current.name, "it was the proxy", again=True)
    assert whole(served.folder) == left.name
    assert served.pointer().taken_back == {}


def test_to_any_generation(served: LiveStore) -> None:
    left = served.current()
    assert left is not None
    served.rollback("a mistake")
    pointer = served.rollback("the mistake is taken back", to=left.name)
    assert whole(served.folder) == left.name
    assert left.name not in pointer.taken_back
    with pytest.raises(LiveError, match="serves already"):
        served.rollback("again", to=left.name)
    with pytest.raises(LiveError, match=r"no whole generation is called 'v9'; there are: v"):
        served.rollback("typing error", to="v9")


def test_an_older_corpus_of_one_version_owes_nothing(one: Path, tmp_path: Path) -> None:
    first = serve(tmp_path / "store", one, "1").pair
    second = serve(tmp_path / "store", one, "1", REVISED).pair
    pointer = LiveStore(tmp_path / "store").rollback("half a corpus")
    assert pointer.owed is None
    assert whole(tmp_path / "store") == first.name
    assert list(pointer.taken_back) == [second.name]


def test_a_rollback_to_a_pair_that_is_gone_changes_nothing(served: LiveStore) -> None:
    previous = served.previous()
    assert previous is not None
    (previous.folder / "pair.json").unlink()
    with pytest.raises(DataError, match="run the indexing again"):
        served.rollback("empty answers")
    assert whole(served.folder).startswith("v2-")


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"format": 1}', "null", '{"format": 1, "current": {"folder": "../x"}}']
)
def test_a_damaged_pointer_is_told_and_can_be_replaced(served: LiveStore, damage: str) -> None:
    (served.folder / POINTER).write_text(damage, encoding="utf-8")
    with pytest.raises(LiveError, match=r"is damaged .*llara rollback --to GENERATION"):
        served.current()
    with pytest.raises(LiveError, match="is damaged"):
        served.rollback("no idea to what")
    name = served.generations()[-1].name
    served.rollback("the pointer is damaged", to=name)
    assert whole(served.folder) == name
    owed = served.pointer().owed
    assert owed is not None
    assert (owed.champion, owed.left) == ("1", None)
    (kept,) = served.folder.glob(f"{POINTER}.damaged-*")
    assert kept.read_text(encoding="utf-8") == damage


def test_a_pointer_of_a_later_version_is_left_alone(served: LiveStore) -> None:
    values = json.loads((served.folder / POINTER).read_text(encoding="utf-8"))
    (served.folder / POINTER).write_text(json.dumps({**values, "format": 2}), encoding="utf-8")
    with pytest.raises(LiveError, match="format 2, this version reads 1; upgrade llara"):
        served.current()


def test_a_pair_whose_model_was_swapped_does_not_open(served: LiveStore, one: Path) -> None:
    current = served.current()
    assert current is not None
    (current.model / "llara.json").unlink()
    (current.model / "llara.json").write_bytes((one / "llara.json").read_bytes())
    with pytest.raises(ModelError, match="their vectors do not mix"):
        served.open()


def test_a_reader_sees_one_pair_or_the_other(served: LiveStore) -> None:
    """A thousand looks while another thread goes back and forth."""
    names = {pair.name for pair in served.generations()}
    seen, stop = set(), threading.Event()

    def look() -> None:
        while not stop.is_set():
            pair = served.current()
            assert pair is not None
            seen.add((pair.name, pair.version, (pair.folder / "pair.json").exists()))

    reader = threading.Thread(target=look)
    reader.start()
    first, second = sorted(names)
    for turn in range(40):
        current = served.current()
        assert current is not None
        served.rollback(f"turn {turn}", to=second if current.name == first else first)
    stop.set()
    reader.join()
    assert {name for name, _, _ in seen} <= names
    assert all(there for _, _, there in seen)
    assert all(name.startswith(f"v{version}-") for name, version, _ in seen)
