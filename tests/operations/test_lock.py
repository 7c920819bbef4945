"""One holder at a time, among real processes, and none blocked by one that was killed."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llara_core.operations.lock import Held, Holder, LockError, holder, take

PATIENCE = 120  # seconds; a slow machine starts a process in a few

HOLD = """
import sys
from pathlib import Path
from llara_core.operations.lock import Held, take
found = take(Path(sys.argv[1]), sys.argv[2])
print("held" if isinstance(found, Held) else "busy " + found.run, flush=True)
sys.stdin.read()
if isinstance(found, Held) and "release" in sys.argv:
    found.release()
"""
# Takes the lock, hands it to a child that waits for the end of its input, and waits too.
WITH_CHILD = """
import subprocess, sys
from pathlib import Path
from llara_core.operations.lock import take
held = take(Path(sys.argv[1]), "parent")
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], pass_fds=(held.handle,))
print(child.pid, flush=True)
child.wait()
"""


def start(program: str, file: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, str(file), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)


def mine(file: Path, run: str) -> Held:
    found = take(file, run)
    assert isinstance(found, Held), found
    return found


def test_the_second_is_told_who_holds_it(tmp_path: Path) -> None:
    file = tmp_path / "locks" / "one.lock"
    held = mine(file, "first")
    held.note("training")
    found = take(file, "second")
    assert isinstance(found, Holder)
    assert (found.run, found.pid, found.doing) == ("first", os.getpid(), "training")
    assert not found.gone
    assert "run first (process" in found.words()
    held.release()
    held.release()
    again = mine(file, "second")
    assert again.crashed is None  # the first let go of it
    again.release()


def test_of_many_processes_one_gets_it(tmp_path: Path) -> None:
    file = tmp_path / "one.lock"
    others = [start(HOLD, file, f"run-{number}") for number in range(6)]
    try:
        said = [first_line(one) for one in others]
        assert sorted(line.split()[0] for line in said) == ["busy"] * 5 + ["held"]
        assert holder(file) is not None
    finally:
        for one in others:
            kill(one)


def test_what_was_killed_is_taken_over_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "one.lock"
    other = start(HOLD, file, "killed-run")
    assert first_line(other) == "held"
    assert isinstance(take(file, "mine"), Holder)
    kill(other)
    left = holder(file)
    assert left is not None
    assert left.gone
    with caplog.at_level(logging.WARNING):
        held = mine(file, "mine")
    assert held.crashed is not None
    assert held.crashed.run == "killed-run"
    assert "killed-run" in caplog.text
    assert "takes over" in caplog.text
    held.release()


def test_a_clean_end_is_no_crash(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "one.lock"
    other = start(HOLD, file, "orderly", "release")
    assert first_line(other) == "held"
    other.communicate(timeout=PATIENCE)
    with caplog.at_level(logging.WARNING):
        assert mine(file, "mine").crashed is None
    assert not caplog.text


def test_a_child_that_outlives_its_killed_parent_keeps_the_lock(tmp_path: Path) -> None:
    file = tmp_path / "one.lock"
    parent = start(WITH_CHILD, file)
    child = int(first_line(parent))
    kill(parent)
    try:
        found = take(file, "mine")
        assert isinstance(found, Holder)
        assert found.run == "parent"
        assert found.gone  # its starter has; what it started goes on
    finally:
        assert parent.stdin is not None
        parent.stdin.close()  # the child's input ends, so it does
    held: Held | Holder = found
    with file.open("r+b") as waiting:  # blocks until the child's end lets go
        fcntl.flock(waiting, fcntl.LOCK_EX)
    held = mine(file, "mine")
    assert held.crashed is not None
    held.release()
    assert child > 0


def test_the_same_run_in_another_process_is_no_crash(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "one.lock"
    other = start(HOLD, file, "the-run")
    assert first_line(other) == "held"
    kill(other)
    with caplog.at_level(logging.WARNING):
        assert mine(file, "the-run").crashed is None
    assert not caplog.text


def test_a_file_beside_the_lock_that_was_cut_off_blocks_nobody(tmp_path: Path) -> None:
    file = tmp_path / "one.lock"
    (tmp_path / "one.json").write_text('{"run": "cut o')
    assert holder(file) is None
    mine(file, "mine").release()
    (tmp_path / "one.json").write_text(json.dumps({"other": "shape"}))
    mine(file, "mine").release()


def test_of_another_boot_or_number_is_gone_of_another_machine_is_not_sure(tmp_path: Path) -> None:
    me = Holder.here("run")
    assert not me.gone
    elsewhere = Holder(**{**vars(me), "host": "another-machine", "boot": "another"})
    assert not elsewhere.gone
    assert Holder(**{**vars(me), "boot": "before the power cut"}).gone
    if me.born:  # where /proc tells when a process began, a reused number is seen
        assert Holder(**{**vars(me), "born": me.born - 1}).gone


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_clearly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(LockError, match=r"this file system has no locks.*LLARA_LOCAL on a local disk"):
        take(tmp_path / "one.lock", "mine")


def test_a_lock_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "one.lock").mkdir()
    with pytest.raises(LockError, match="cannot be opened"):
        take(tmp_path / "one.lock", "mine")


def test_somebody_who_only_looks_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "one.lock"
    file.touch()
    with file.open("r+b") as looking:
        fcntl.flock(looking, fcntl.LOCK_EX)  # and says nothing of itself, as `llara gc`
        assert isinstance(take(file, "mine", tries=1), Holder)
        monkeypatch.setattr("time.sleep", lambda _: fcntl.flock(looking, fcntl.LOCK_UN))
        mine(file, "mine").release()
