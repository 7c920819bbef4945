"""What ``llara gc`` may delete below the local state: tests that try to make it delete what is in use."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llara_core.errors import DataError
from llara_core.operations import retention
from llara_core.operations.lock import Held, take
from llara_core.operations.retention import DAY, Item, Use, readable, remove, size_of, summary
from llara_core.operations.retention_files import local_items, still_used
from llara_core.operations.retention_use import live_pairs
from tests.retention_folders import CHAMPION, EAGER, MODEL, NOW, aged, folder, reasons, vectors


def test_all_that_is_old_and_unused_goes(tmp_path: Path) -> None:
    vectors(tmp_path)
    folder(tmp_path / "vectors" / f".{'a' * 20}-{'c' * 20}-float16.partial")
    (tmp_path / "vectors" / f"{'a' * 20}-{'b' * 20}.npy").write_bytes(b"old format")
    aged(tmp_path / "vectors" / f"{'a' * 20}-{'b' * 20}.npy", 100)
    folder(tmp_path / "vectors" / f"bm25-{'a' * 20}")
    folder(tmp_path / "work" / "adapted-0123456789ab")
    folder(tmp_path / "checkpoints" / "adapt" / "run-0123456789ab")
    folder(tmp_path / "quarantine" / "mine")
    folder(tmp_path / "cache" / "registry" / ("a" * 16) / "llara-retriever-0123" / "3-0123456789abcdef")
    found = reasons(tmp_path)
    assert len(found) == 8
    assert set(found.values()) == {None}


def test_what_no_run_makes_is_no_part_of_the_list(tmp_path: Path) -> None:
    strange = ("vectors/my notes", "work/thesis", "checkpoints/adapt/best", "a-0123456789ab")
    others = ("reports", "mlflow", "zenml", "artifacts", "locks", "ticks", "logs", "champions")
    for name in (*strange, *(f"{other}/a-0123456789ab" for other in others)):
        folder(tmp_path / name)
    assert reasons(tmp_path) == {}
    assert reasons(tmp_path / "missing") == {}


@pytest.mark.parametrize("kind", ["vectors", "work", "checkpoints", "quarantine"])
def test_what_is_young_stays(tmp_path: Path, kind: str) -> None:
    place = {
        "vectors": f"vectors/{'a' * 20}-{'b' * 20}-float32", "work": "work/adapted-0123456789ab",
        "checkpoints": "checkpoints/adapt/run-0123456789ab", "quarantine": "quarantine/mine",
    }[kind]  # fmt: skip
    made = folder(tmp_path / place, days=0.9)
    assert list(reasons(tmp_path).values()) == ["younger than 1 days"]
    aged(made, 1.1)
    assert list(reasons(tmp_path).values()) == [None]
    os.utime(made / "file.bin", (NOW - 100 * DAY, NOW + 60))  # another machine's clock is ahead
    assert list(reasons(tmp_path).values()) == ["younger than 1 days"]


def test_vectors_that_were_read_lately_stay(tmp_path: Path) -> None:
    made = vectors(tmp_path)
    os.utime(made / "file.bin", (NOW - 0.5 * DAY, NOW - 100 * DAY))
    assert list(reasons(tmp_path).values()) == ["younger than 1 days"]


def test_a_bm25_index_stays_as_long_as_vectors_do(tmp_path: Path) -> None:
    made = folder(tmp_path / "vectors" / f"bm25-{'a' * 20}", days=29)
    settings = EAGER.model_copy(update={"vectors_days": 30.0})
    assert list(reasons(tmp_path, settings=settings).values()) == ["younger than 30 days"]
    aged(made, 31)
    assert list(reasons(tmp_path, settings=settings).values()) == [None]


def test_vectors_of_models_that_are_kept_stay(tmp_path: Path) -> None:
    kept, other = vectors(tmp_path, CHAMPION), vectors(tmp_path)
    found = reasons(tmp_path, Use(fingerprints={MODEL: "alias champion"}))
    assert found == {f"vectors/{kept.name}": "alias champion", f"vectors/{other.name}": None}


def test_a_fetched_model_stays_while_it_is_used_or_fetched(tmp_path: Path) -> None:
    place = tmp_path / "cache" / "registry" / ("a" * 16) / "llara-retriever-0123" / "3-at-1800000000_x"
    settings = EAGER.model_copy(update={"vectors_days": 30.0})
    folder(place, days=29)
    assert list(reasons(tmp_path, settings=settings).values()) == ["younger than 30 days"]
    aged(place, 31)
    assert list(reasons(tmp_path, settings=settings).values()) == [None]
    half_done = folder(place.with_name(".4-at-1800000000_y.q_z8k2xw.partial"), days=31)
    assert list(reasons(tmp_path, settings=settings).values()) == [None, None]
    for name, one in ((place.name, place.name), ("4-at-1800000000_y", half_done.name)):
        held = take(place.with_name(f"{name}.lock"), "a download", tries=0)
        assert isinstance(held, Held)
        try:
            found = reasons(tmp_path, settings=settings)
            assert found[f"{place.parent.name}/{one}"] == "another process fetches it"
            assert list(found.values()).count(None) == 1
        finally:
            held.release()


def test_while_a_run_is_under_way_nothing_goes_that_it_may_have_made(tmp_path: Path) -> None:
    folder(tmp_path / "work" / "adapted-0123456789ab")
    folder(tmp_path / "checkpoints" / "adapt" / "run-0123456789ab")
    folder(tmp_path / "vectors" / f".{'a' * 20}-{'c' * 20}-float16.partial")
    assert set(reasons(tmp_path, Use(running="training-7 is under way")).values()) == {
        "training-7 is under way"
    }


def test_patterns_of_the_settings_keep(tmp_path: Path) -> None:
    folder(tmp_path / "quarantine" / "mine")
    folder(tmp_path / "quarantine" / "theirs")
    settings = EAGER.model_copy(update={"keep": ("quarantine/mi*",)})
    assert reasons(tmp_path, settings=settings) == {
        "quarantine/mine": "retention.keep names quarantine/mi*", "quarantine/theirs": None
    }  # fmt: skip


def test_links_are_never_followed(tmp_path: Path) -> None:
    precious = folder(tmp_path / "elsewhere" / "precious")
    (tmp_path / "work").mkdir()
    link = tmp_path / "work" / "adapted-0123456789ab"
    link.symlink_to(precious)
    os.utime(link, (NOW - 100 * DAY,) * 2, follow_symlinks=False)
    assert reasons(tmp_path) == {"work/adapted-0123456789ab": "a link"}
    inside = folder(tmp_path / "work" / "mined-0123456789ab")
    (inside / "link").symlink_to(precious)
    aged(inside, 100)
    (item,) = [one for one in local_items(tmp_path, EAGER, Use(), NOW) if one.keep is None]
    assert remove(item, lambda _: None) is None
    assert not inside.exists()
    assert (precious / "file.bin").exists()
    (tmp_path / "live").symlink_to(tmp_path / "elsewhere")  # a store that is a link is somebody else's
    assert "precious" not in str(reasons(tmp_path))


def live(local: Path, pointer: object) -> Path:
    store = local / "live" / "llara-retriever"
    for name in ("g1", "g2", "g3", "g4"):
        folder(store / name)
    (store / "live.json").write_text(pointer if isinstance(pointer, str) else json.dumps(pointer))
    return store


def test_the_live_pair_and_the_one_before_it_stay(tmp_path: Path) -> None:
    store = live(
        tmp_path,
        {"current": {"folder": "g3", "version": "7"}, "previous": {"folder": "g1"}, "history": ["g2"]},
    )
    found = reasons(tmp_path)
    words = "the live pointer names it"
    assert found == {f"{store.name}/g1": words, f"{store.name}/g3": words, f"{store.name}/g2": None,
                     f"{store.name}/g4": None}  # fmt: skip


@pytest.mark.parametrize("pointer", ["", "{", "[]", "null", '{"current": 5', "\x00"])
def test_a_pointer_that_cannot_be_read_protects_its_store(tmp_path: Path, pointer: str) -> None:
    live(tmp_path, pointer)
    assert set(reasons(tmp_path).values()) == {"live.json cannot be read"}


def test_a_store_without_a_pointer_is_left_alone(tmp_path: Path) -> None:
    (live(tmp_path, {}) / "live.json").unlink()
    assert set(reasons(tmp_path).values()) == {"the store has no pointer yet"}


def test_the_newest_unused_generations_stay(tmp_path: Path) -> None:
    store = live(tmp_path, {"current": {"folder": "g1"}, "previous": None})
    for days, name in enumerate(("g4", "g2", "g3")):
        aged(store / name, 10 + days)
    found = reasons(tmp_path, settings=EAGER.model_copy(update={"generations": 2}))
    assert [name for name, words in found.items() if words is None] == [f"{store.name}/g3"]


def test_a_cutover_between_the_list_and_the_deletion_is_noticed(tmp_path: Path) -> None:
    store = live(tmp_path, {"current": {"folder": "g1"}})
    item = next(one for one in local_items(tmp_path, EAGER, Use(), NOW) if one.name.endswith("/g2"))
    assert item.keep is None
    (store / "live.json").write_text(json.dumps({"current": {"folder": "g2"}, "previous": {"folder": "g1"}}))
    assert remove(item, lambda one: still_used(one, Use())) == "the live pointer names it"
    assert (store / "g2" / "file.bin").exists()


def test_a_cutover_in_the_very_moment_of_deletion_is_undone(tmp_path: Path) -> None:
    live(tmp_path, {"current": {"folder": "g1"}})
    item = next(one for one in local_items(tmp_path, EAGER, Use(), NOW) if one.name.endswith("/g2"))
    answers = iter([None, "the live pointer names it"])
    assert remove(item, lambda _: next(answers)) == "the live pointer names it"
    assert item.path is not None
    assert (item.path / "file.bin").exists()


def test_an_interrupted_gc_is_finished_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = vectors(tmp_path)
    (item,) = local_items(tmp_path, EAGER, Use(), NOW)

    def killed(path: Path) -> None:
        raise KeyboardInterrupt  # the rename is done, the deletion has not begun

    with monkeypatch.context() as patch:
        patch.setattr(retention.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove(item, lambda _: None)
    assert not made.exists()
    (rest,) = local_items(tmp_path, EAGER, Use(running="something"), NOW)
    assert (rest.kind, rest.keep) == ("interrupted gc", None)
    assert remove(rest, lambda _: None) is None
    assert not list((tmp_path / "vectors").iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may delete anything")
def test_what_cannot_be_deleted_is_told(tmp_path: Path) -> None:
    made = vectors(tmp_path)
    made.parent.chmod(0o500)
    try:
        with pytest.raises(DataError, match="cannot be deleted"):
            remove(Item("vectors", made.name, 1, 0.0, path=made), lambda _: None)
    finally:
        made.parent.chmod(0o700)


def test_bytes_are_those_that_deleting_frees(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", content=os.urandom(100_000))
    alone = size_of(one)
    assert alone >= 100_000
    os.link(one / "file.bin", one / "again.bin")
    assert size_of(one) == alone  # two names, one file
    (tmp_path / "two").mkdir()
    os.link(one / "file.bin", tmp_path / "two" / "file.bin")
    assert size_of(one) == 0  # it would live on under its other name
    assert size_of(tmp_path / "missing") == 0


def test_the_list_adds_up() -> None:
    items = [Item("work", "a", 10, 0.0), Item("work", "b", 5, 0.0, "young"), Item("vectors", "c", 1, 0.0)]
    assert summary(items) == [
        {"kind": "work", "delete": 1, "delete_bytes": 10, "keep": 1, "keep_bytes": 5},
        {"kind": "vectors", "delete": 1, "delete_bytes": 1, "keep": 0, "keep_bytes": 0},
    ]
    assert [readable(size) for size in (0, 999, 1000, 1_500_000, 2 * 10**9, 3 * 10**15)] == [
        "0 B", "999 B", "1.0 kB", "1.5 MB", "2.0 GB", "3000.0 TB"
    ]  # fmt: skip


def states(seed: int) -> Iterator[tuple[str, str]]:
    """Random generations and pointers, for the property below."""
    chance = random.Random(seed)
    names = [f"g{number}" for number in range(chance.randint(1, 6))]
    current, previous = chance.choice(names), chance.choice([*names, None])
    for name in names:
        yield (
            name,
            json.dumps({"current": {"folder": current}, "previous": previous and {"folder": previous}}),
        )


@pytest.mark.parametrize("seed", range(30))
def test_whatever_the_state_the_pair_that_serves_survives(tmp_path: Path, seed: int) -> None:
    for name, pointer in states(seed):
        folder(tmp_path / "live" / "m" / name)
        (tmp_path / "live" / "m" / "live.json").write_text(pointer)
    for item in local_items(tmp_path, EAGER, Use(), time.time() + 1e9):
        if item.keep is None:
            remove(item, lambda one: still_used(one, Use()))
    named = {str(pair["folder"]) for pair in live_pairs(tmp_path / "live" / "m") or ()}
    left = {place.name for place in (tmp_path / "live" / "m").iterdir() if place.is_dir()}
    assert left == named
