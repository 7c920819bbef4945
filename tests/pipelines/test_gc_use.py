"""What the project tells gc is in use: live pairs, schedules, the crontab, the printed search command."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from llara_core.errors import DataError
from llara_core.operations.retention_use import References, references
from pipelines import gc


@pytest.fixture
def local(tmp_path: Path) -> Path:
    folder = tmp_path / "local"
    folder.mkdir()
    return folder.resolve()


def made(place: Path) -> Path:
    place.mkdir(parents=True)
    return place


def crontab(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ``crontab`` command that prints a text, first in the path."""
    (folder / "table").write_text(text)
    program = folder / "crontab"
    program.write_text(f"#!/bin/sh\n[ \"$1\" = -l ] && cat '{folder}/table'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_schedules_of_the_checkout_and_of_the_crontab_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedules = made(tmp_path / "schedules")
    (schedules / "nightly.yaml").write_text("run: {base: models:/llara-adapted/4}\n")
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.write_text("parameters: {model: {base: 'models:/llara-adapted/7'}}\n")
    monkeypatch.setattr(gc, "SCHEDULES", schedules)
    crontab(
        made(tmp_path / "bin"), f"0 3 * * * cd / && python -m pipelines -c {elsewhere} >log\n", monkeypatch
    )
    assert references(gc._configurations()).versions == {"llara-adapted/4", "llara-adapted/7"}


def test_without_cron_the_schedules_of_the_checkout_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedules = made(tmp_path / "schedules")
    (schedules / "nightly.yaml").write_text("run: {}\n")
    monkeypatch.setattr(gc, "SCHEDULES", schedules)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gc._configurations() == [schedules / "nightly.yaml"]


def test_what_the_printed_search_command_names_is_in_use(local: Path) -> None:
    bundle = made(local / "artifacts" / "finetune" / "content")
    made(local / "champions" / "llara-retriever")
    (local / "champions" / "llara-retriever" / "model").symlink_to(bundle)
    assert gc._paths(local, References())[bundle] == "the command that a run has printed searches it"


def test_a_place_where_things_come_and_go_is_no_thing(local: Path) -> None:
    thing = made(local / "live" / "llara-retriever" / "g1")
    named = {thing, thing.parent, local / "live", local, local.parent, made(local / "vectors")}
    assert set(gc._paths(local, References(paths=named))) == {thing}


def test_a_lock_that_is_held_is_something_under_way(local: Path) -> None:
    lock = made(local / "locks") / "retraining"
    lock.write_text("{}")
    assert gc._running([], local) is None
    with lock.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert gc._running([], local) == "the lock retraining is held"
    assert gc._running(["training-7"], local) == "training-7 is under way"
    assert gc._running([], local.parent / "nothing here") is None


def test_live_pairs_name_versions_and_fingerprints(local: Path) -> None:
    store = made(local / "live" / "llara-retriever")
    pairs = {
        "current": {"folder": "g2", "version": "3", "fingerprint": "f3"},
        "previous": {"folder": "g1", "version": "2", "fingerprint": "f2"},
        "history": [{"folder": "g0", "version": "1", "fingerprint": "f1"}],
    }
    (store / "live.json").write_text(json.dumps(pairs))
    made(local / "live" / "other")
    versions, fingerprints = gc._live(local)
    assert set(versions) == {"llara-retriever/3", "llara-retriever/2"}
    assert set(fingerprints) == {"f3", "f2"}


def test_a_live_store_elsewhere_is_found_by_the_configuration_that_names_it(
    local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = made(tmp_path / "volume" / "llara-retriever")
    (store / "live.json").write_text(json.dumps({"current": {"folder": "g2", "version": "models:/x/3"}}))
    configurations = made(tmp_path / "configs")
    (configurations / "indexing.yaml").write_text(f"parameters: {{live: {tmp_path / 'volume'}}}\n")
    monkeypatch.setattr(gc, "CONFIGURATIONS", configurations)
    assert set(gc._live(local)[0]) == {"llara-retriever/3"}


def test_a_pointer_that_cannot_be_read_stops_everything(local: Path) -> None:
    store = made(local / "live" / "llara-retriever")
    (store / "live.json").write_text("{")
    with pytest.raises(DataError, match="nothing was deleted"):
        gc._live(local)


def test_a_version_that_went_live_after_the_list_stays(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llara_core.operations.retention import Item

    plan = gc.Plan.__new__(gc.Plan)  # without asking ZenML and MLflow
    plan.local = local
    store = made(local / "live" / "llara-retriever")
    (store / "live.json").write_text(json.dumps({"current": {"folder": "g2", "version": "3"}}))
    item = Item("model version", "llara-retriever/3", 0, 0.0, key="3")
    assert plan._delete_version(item) == "the live pointer names it"
