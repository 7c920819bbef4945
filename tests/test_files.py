"""Outputs appear whole or not at all."""

from __future__ import annotations

import json

import pytest

from llara_core.errors import DataError
from llara_core.files import check_writable, new_file, new_folder, write_json


def everything_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_folder_appears_with_its_content(tmp_path):
    with new_folder(tmp_path / "deep" / "out") as folder:
        (folder / "a.txt").write_text("a")
        assert not (tmp_path / "deep" / "out").exists()
    assert everything_below(tmp_path) == ["deep", "deep/out", "deep/out/a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_broken_off_folder_leaves_the_old_one(tmp_path, error):
    out = tmp_path / "out"
    with new_folder(out) as folder:
        (folder / "mark").write_text("old")
    with pytest.raises(error), new_folder(out, replace=("mark",)) as folder:
        (folder / "mark").write_text("new")
        raise error
    assert (out / "mark").read_text() == "old"
    assert everything_below(tmp_path) == ["out", "out/mark"]


def test_own_output_is_replaced_whole(tmp_path):
    out = tmp_path / "out"
    with new_folder(out) as folder:
        (folder / "mark").write_text("old")
        (folder / "left-over").write_text("old")
    with new_folder(out, replace=("mark",)) as folder:
        (folder / "mark").write_text("new")
    assert everything_below(tmp_path) == ["out", "out/mark"]
    assert (out / "mark").read_text() == "new"


def test_foreign_folder_is_refused_and_kept(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match="holds something else"), new_folder(tmp_path, replace=("mark",)):
        pytest.fail("the block must not run")
    assert (tmp_path / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_broken_off_file_leaves_the_old_one(tmp_path, error):
    target = tmp_path / "x.json"
    write_json(target, {"a": 1})
    with pytest.raises(error), new_file(target) as temporary:
        temporary.write_text("half")
        raise error
    assert json.loads(target.read_text()) == {"a": 1}
    assert everything_below(tmp_path) == ["x.json"]


def test_unwritable_places_are_named(tmp_path):
    # Under a regular file nothing can be made, whoever asks: root too, whom permission bits do not bind.
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "sub" / "out"
    for attempt in (
        lambda: check_writable(target),
        lambda: write_json(target, 1),
        lambda: new_folder(target).__enter__(),
    ):
        with pytest.raises(DataError, match="cannot write here") as caught:
            attempt()
        assert caught.value.file == target and caught.value.exit_code == 2


def test_check_writable_leaves_nothing_behind(tmp_path):
    check_writable(tmp_path / "a" / "b" / "out")
    assert everything_below(tmp_path) == []
