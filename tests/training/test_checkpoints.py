"""Checkpoints are whole or absent, whatever cuts a save off, and only the very same run uses them."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from llara_core.config import AdaptSettings
from llara_core.errors import DataError
from llara_core.model.bundle import Bundle
from llara_core.model.prompts import TEMPLATES
from llara_core.training.checkpoints import Checkpoints
from llara_core.training.run_folders import discard
from llara_core.training.run_identity import differences, identity_hash, run_identity, table_hash

WHO = {"stage": "adapt", "seed": 1, "settings": {"learning_rate": 0.01, "lora": None}}
FILES = ("weights.safetensors", "state.json", "manifest.json")


def writer(value: float) -> Any:
    """Fills a folder as the trainer does: tensors and plain values."""

    def write(folder: Path) -> None:
        save_file({"w": torch.full((64,), value)}, folder / "weights.safetensors")
        (folder / "state.json").write_text(json.dumps({"value": value}), encoding="utf-8")

    return write


def opened(folder: Path, identity: Any = None, keep: int = 2) -> Checkpoints:
    checkpoints = Checkpoints(folder, identity or WHO, keep)
    checkpoints.open()
    return checkpoints


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoints:
    """A run with checkpoints of steps 1 and 2."""
    checkpoints = opened(tmp_path / "c")
    assert checkpoints.save(1, writer(1.0)) and checkpoints.save(2, writer(2.0))
    return checkpoints


def latest_value(checkpoints: Checkpoints) -> float | None:
    found = checkpoints.latest()
    return None if found is None else found.values("state")["value"]


def test_the_newest_is_found_again_and_old_ones_go(tmp_path: Path) -> None:
    checkpoints = opened(tmp_path / "c", keep=2)
    assert checkpoints.latest() is None
    for step in (5, 999_999, 1_000_000):
        assert checkpoints.save(step, writer(float(step)))
    assert checkpoints.steps() == [999_999, 1_000_000]
    again = opened(tmp_path / "c")
    found = again.latest()
    assert found is not None and found.step == 1_000_000 and found.values("state") == {"value": 1e6}
    assert sorted(path.name for path in found.folder.iterdir()) == sorted(FILES)
    assert json.loads((again.folder / "identity.json").read_text()) == WHO


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", ["remove", "cut", "empty", "flip first", "flip last", "append"])
def test_a_spoilt_checkpoint_is_never_used(
    saved: Checkpoints, name: str, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved.at(2).folder / name
    data = bytearray(path.read_bytes())
    if harm == "remove":
        path.unlink()
    else:
        data = {
            "cut": data[: len(data) // 2], "empty": bytearray(), "append": data + b"x",
            "flip first": bytes([data[0] ^ 1]) + data[1:],
            "flip last": data[:-2] + bytes([data[-2] ^ 4]) + data[-1:],
        }[harm]  # fmt: skip
        path.write_bytes(data)
    assert latest_value(saved) == 1.0
    assert "step-000002 is not used" in caplog.text
    aside = [path.name for path in saved.folder.iterdir() if "broken" in path.name]
    assert aside == ["step-000002.broken1"]
    assert saved.save(2, writer(2.5)) and latest_value(saved) == 2.5  # the name is free again


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    checkpoints = opened(tmp_path / "c")
    assert checkpoints.save(1, writer(1.0))
    path = checkpoints.at(1).folder / "weights.safetensors"
    good = path.read_bytes()
    for place in range(0, len(good), 7):
        path.write_bytes(good[:place] + bytes([good[place] ^ 128]) + good[place + 1 :])
        assert checkpoints.latest() is None
        (checkpoints.folder / "step-000001.broken1").rename(checkpoints.at(1).folder)
    path.write_bytes(good)
    assert latest_value(checkpoints) == 1.0


def test_a_checkpoint_of_another_step_or_format_is_not_used(saved: Checkpoints) -> None:
    saved.at(2).folder.rename(saved.at(3).folder)  # its manifest still says step 2
    assert latest_value(saved) == 1.0
    manifest = saved.at(1).folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    assert saved.latest() is None


class CutOff(BaseException):
    """Stands for a kill: nothing catches it."""


def calls_that_write(monkeypatch: pytest.MonkeyPatch, error: BaseException, at: int) -> Iterator[int]:
    """Raise ``error`` at the ``at``-th call that touches the disk; yields how many there were."""
    seen = [0]

    def counted(original: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            seen[0] += 1
            if seen[0] == at:
                raise error
            return original(*arguments, **options)

        return call

    for owner, name in ((os, "fsync"), (Path, "write_text"), (Path, "mkdir"), (Path, "rename"),
                        (sys.modules[__name__], "save_file")):  # fmt: skip
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    yield seen[0]
    monkeypatch.undo()
    yield seen[0]


@pytest.mark.parametrize(
    "error", [CutOff(), OSError(errno.ENOSPC, "No space left on device")], ids=["killed", "full"]
)
def test_cut_off_at_any_write_the_last_good_one_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Interrupted before each write, fsync, mkdir and rename in turn: step 2 counts whole or not at all."""
    kept, at, writes = set(), 0, 99
    while at < writes + 1:
        at += 1
        checkpoints = opened(tmp_path / f"c{at}", keep=1)
        assert checkpoints.save(1, writer(1.0))
        # A real kill removes nothing, so what is left is looked at as it was before the clean-up.
        monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)
        counter = calls_that_write(monkeypatch, error, at)
        next(counter)
        with contextlib.suppress(CutOff):
            checkpoints.save(2, writer(2.0))
        writes = next(counter)
        left = opened(tmp_path / f"c{at}")
        value = latest_value(left)
        assert value in (1.0, 2.0)
        kept.add(value)
        assert list(left.folder.glob("*.part")) == [] and left.save(3, writer(3.0))
    assert writes > 8 and kept == {1.0, 2.0}


def test_a_full_disk_says_so_and_stops_nothing(saved: Checkpoints, caplog: pytest.LogCaptureFixture) -> None:
    def full(folder: Path) -> None:
        writer(3.0)(folder)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert saved.save(3, full) is False
    assert "no checkpoint of step 3" in caplog.text and "No space left on device" in caplog.text
    assert "the last good one is of step 2" in caplog.text
    assert latest_value(saved) == 2.0 and list(saved.folder.glob("*.part")) == []
    assert saved.save(4, writer(4.0)) and latest_value(saved) == 4.0


def test_older_ones_make_place_for_a_new_one(saved: Checkpoints, caplog: pytest.LogCaptureFixture) -> None:
    """The disk holds two checkpoints: what can be written must not be given up for what is out of date."""

    def cramped(folder: Path) -> None:
        writer(3.0)(folder)
        if len(saved.steps()) == 2:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    assert saved.save(3, cramped) is True
    assert saved.steps() == [2, 3] and latest_value(saved) == 3.0
    assert "no room for 3 checkpoints" in caplog.text and "no checkpoint of step" not in caplog.text


def _save_with_a_limit(folder: Path) -> None:
    """In a child: the kernel refuses to write more than 4 kB into a file, as a full disk would."""
    logging.basicConfig(filename=folder / "log", level=logging.WARNING, force=True)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    large = {"w": torch.zeros(4096)}
    checkpoints = opened(folder / "c")
    first = checkpoints.save(3, lambda part: save_file(large, part / "weights.safetensors"))
    second = checkpoints.save(4, lambda part: (part / "state.json").write_text("x" * 9000) and None)
    os._exit(0 if (first, second) == (False, False) else 1)


def test_a_write_that_the_system_refuses_leaves_the_last_good_one(tmp_path: Path) -> None:
    checkpoints = opened(tmp_path / "c")
    assert checkpoints.save(1, writer(1.0))
    child = multiprocessing.get_context("fork").Process(target=_save_with_a_limit, args=(tmp_path,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert latest_value(checkpoints) == 1.0 and list(checkpoints.folder.glob("*.part")) == []
    assert (tmp_path / "log").read_text().count("File too large") == 2


def test_another_run_has_a_folder_of_its_own_and_the_difference_is_told(
    saved: Checkpoints, caplog: pytest.LogCaptureFixture
) -> None:
    other = opened(saved.parent, {**WHO, "seed": 2, "settings": {"learning_rate": 0.02, "lora": None}})
    assert other.latest() is None and other.folder != saved.folder
    assert "seed: now 2, then 1" in caplog.text
    assert "settings.learning_rate: now 0.02, then 0.01" in caplog.text and "lora" not in caplog.text
    assert other.save(1, writer(9.0))
    assert (latest_value(saved), latest_value(other)) == (2.0, 9.0)
    caplog.clear()
    opened(saved.parent, {**WHO, "stage": "finetune"})
    assert caplog.text == ""  # another stage is no surprise


def test_a_checkpoint_copied_from_another_run_is_not_used(saved: Checkpoints) -> None:
    other = opened(saved.parent, {**WHO, "seed": 2})
    saved.at(2).folder.rename(other.at(2).folder)
    assert other.latest() is None and latest_value(saved) == 1.0


def test_discard_removes_runs_and_nothing_else(saved: Checkpoints) -> None:
    ended = opened(saved.parent, {**WHO, "seed": 2})
    assert ended.save(1, writer(1.0))
    ended.finish()
    opened(saved.parent, {**WHO, "seed": 3})  # has nothing to go on from
    (saved.parent / "notes.txt").write_text("mine")
    assert discard(saved.parent, keep_resumable=True) == 2
    assert latest_value(saved) == 2.0
    saved.finish()
    opened(saved.parent)  # taken up again, so no longer finished
    assert discard(saved.parent, keep_resumable=True) == 0
    assert discard(saved.parent) == 1
    assert [path.name for path in saved.parent.iterdir()] == ["notes.txt"]
    (saved.parent / "notes.txt").unlink()
    opened(saved.parent)
    assert discard(saved.parent) == 1 and not saved.parent.exists()
    assert discard(saved.parent) == 0


def test_a_folder_that_cannot_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write here"):
        opened(tmp_path / "file" / "c")


def make_bundle(**changes: Any) -> Bundle:
    values: dict[str, Any] = {
        "template": TEMPLATES["slots"], "slot_ids": {}, "query_length": 8, "passage_length": 16,
        "base_model": "b", "fingerprint": "f" * 64,
    }  # fmt: skip
    return Bundle(**{**values, **changes})


def test_identity_knows_what_changes_the_result_and_what_does_not() -> None:
    def of(bundle: Bundle | None = None, data: str = "d", seed: int = 3, **settings: Any) -> str:
        given = run_identity(
            "adapt", AdaptSettings(**settings), seed, bundle or make_bundle(), {"rows": data}
        )
        return identity_hash(given)

    same = [of(), of(log_every=3), of(checkpoint_every=None), of(keep_checkpoints=9)]
    assert len(set(same)) == 1
    others = [of(learning_rate=0.5), of(steps=7), of(lora={}), of(data="e"), of(seed=4),
              of(make_bundle(fingerprint="e" * 64)), of(make_bundle(dtype="bfloat16"))]  # fmt: skip
    assert len({same[0], *others}) == len(others) + 1
    assert identity_hash({"a": 1, "b": 2}) == identity_hash({"b": 2, "a": 1})
    assert differences({"a": {"b": 1}, "c": "x" * 64}, {"a": {"b": 2}, "c": "x" * 64}) == [
        "a.b: now 1, then 2"
    ]


def test_table_hash_sees_values_and_order_but_not_chunks() -> None:
    whole = pa.table({"text": ["ab", "c", None], "score": [1, 2, 3]})
    parts = pa.concat_tables([whole.slice(0, 1), whole.slice(1, 2)])
    assert parts["text"].num_chunks == 2 and table_hash(parts) == table_hash(whole)
    others = [
        pa.table({"text": ["a", "bc", None], "score": [1, 2, 3]}),
        pa.table({"text": ["ab", "c", ""], "score": [1, 2, 3]}),
        pa.table({"text": ["ab", "c", "null"], "score": [1, 2, 3]}),
        pa.table({"text": ["c", "ab", None], "score": [1, 2, 3]}),
        pa.table({"text": ["ab", "c", None], "score": [1, 2, 4]}),
        pa.table({"texts": ["ab", "c", None], "score": [1, 2, 3]}),
    ]
    assert len({table_hash(one) for one in (whole, *others)}) == len(others) + 1
