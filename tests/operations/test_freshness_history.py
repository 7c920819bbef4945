"""Appending survives crashes and company; reading puts a tick's lines together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llara_core.errors import DataError
from llara_core.operations.freshness_history import append, file_of, read, unfinished

DONE = {"state": "done"}
WRITE = """
import sys
from pathlib import Path
from llara_core.operations.freshness_history import append
for number in range(50):
    append(Path(sys.argv[1]), {"tick": f"{sys.argv[2]}-{number}", "padding": "x" * 3000})
"""


def test_a_decision_and_its_outcome_are_one_tick(tmp_path: Path) -> None:
    file = file_of(tmp_path, "llara-retriever")
    assert file == tmp_path / "ticks" / "llara-retriever.jsonl"
    append(file, {"tick": "a", "action": "train"})
    append(file, {"tick": "b", "action": "skip"})
    append(file, {"tick": "a", "outcome": {"state": "done"}})
    assert read(file) == [
        {"tick": "a", "action": "train", "outcome": {"state": "done"}},
        {"tick": "b", "action": "skip"},
    ]


def test_no_file_no_ticks(tmp_path: Path) -> None:
    assert read(tmp_path / "none.jsonl") == []


def test_a_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    assert file_of(tmp_path, "../../etc/passwd").parent == tmp_path / "ticks"


@pytest.mark.parametrize("keep", [1, 10, -1])
def test_a_torn_last_line_is_survived(tmp_path: Path, keep: int, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "t.jsonl"
    append(file, {"tick": "a", "reason": "ä"})
    whole = file.read_bytes()
    append(file, {"tick": "torn"})
    file.write_bytes(whole + file.read_bytes()[len(whole) :][:keep])
    append(file, {"tick": "c"})
    names = [one["tick"] for one in read(file)]
    # Cut before its newline only, a line is whole.
    assert names == (["a", "torn", "c"] if keep == -1 else ["a", "c"])
    assert ("left out" in caplog.text) == (keep != -1)


def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", WRITE, str(file), name]) for name in "abc"]
    assert [one.wait(120) for one in writers] == [0, 0, 0]
    assert len(read(file)) == 150
    assert all(json.loads(line) for line in file.read_text().splitlines() if line)


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").mkdir()
    with pytest.raises(DataError, match="cannot write"):
        append(tmp_path / "t.jsonl", {"tick": "a"})


@pytest.mark.parametrize(
    ("ticks", "left"),
    [
        ([], None),
        ([{"tick": "a", "action": "skip"}], None),
        ([{"tick": "a", "action": "train"}], "a"),
        ([{"tick": "a", "action": "train"}, {"tick": "b", "action": "skip"}], "a"),
        ([{"tick": "a", "action": "train", "outcome": {"state": "failed"}}], "a"),
        ([{"tick": "a", "action": "train", "outcome": DONE}], None),
        ([{"tick": "a", "action": "train"}, {"tick": "b", "action": "refresh", "outcome": DONE}], None),
    ],
)  # fmt: skip
def test_what_is_unfinished(ticks: list[dict[str, object]], left: str | None) -> None:
    found = unfinished(ticks)
    assert (found and found["tick"]) == left
