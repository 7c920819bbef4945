"""A launcher and its processes, watched: what they say is passed on, and none outlives the one that asked."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llara_core.errors
from llara_core.errors import LlaraError, TrainingError
from llara_core.training.launched import ALIVE, CURVE, ENDED, LOG

if TYPE_CHECKING:  # who only launches needs no torch
    from llara_core.training.trainer import OnLog

logger = logging.getLogger(__name__)

LAUNCHER_LOG = "launcher.log"
_LOOK = 0.25  # seconds between two looks at what the processes have said
# The launcher gives its processes 30 s to end, and then kills them; a little more for itself.
_LEAVE = 40.0
_GOES_ON = "The last checkpoint stands: the same command goes on from it"
_TAIL = 12  # last lines of a log that an error shows
# How torchrun tells the first failure: "rank : 1 (local_rank: 1)", "exitcode : -9 (pid: 4711)".
_ROOT_CAUSE = re.compile(r"Root Cause.*?rank\s*:\s*(\d+).*?exitcode\s*:\s*(-?\d+)", re.DOTALL)
_NOT_ALL_CAME = re.compile(r"clients joined|DistStoreError|DistNetworkError|timed out", re.IGNORECASE)


def watch(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    on_log: OnLog | None = None,
    stage: str = "training",
) -> None:
    """Run a launcher of ``launched`` until it ends; interrupted in any way, end it and all of its processes.

    Args:
        command: the launcher.
        folder: of the launch; ``launched`` writes there.
        environment: of the launcher.
        on_log: called with the main process's curve, as it grows.
        stage: name for messages.

    Raises:
        LlaraError: a process failed: its own error, by its own name. TrainingError where it was none of ours,
            where it was killed, and where the processes did not find each other.
    """
    with _alive(folder / ALIVE), (folder / LAUNCHER_LOG).open("wb") as sink:
        # A session of its own: Ctrl-C on a terminal reaches this process, which ends the others in order.
        launcher = subprocess.Popen(  # noqa: S603 - our own command
            [*command], env=dict(environment), stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
        )
        said = _Said(folder, on_log)
        try:
            while _runs(launcher):
                said.pass_on()
        finally:
            _end(launcher)
            said.pass_on()
    if launcher.returncode:
        raise failure_of(folder, stage, launcher.returncode)


def failure_of(folder: Path, stage: str, code: int) -> LlaraError:
    """Why a launch failed, from what its processes have left.

    Args:
        folder: of the launch.
        stage: name for messages.
        code: exit code of the launcher.
    """
    failures = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("failure-*.json")]
    root = _killed(folder)
    causes = sorted((one for one in failures if not one["consequence"]), key=lambda one: float(one["time"]))
    if causes:
        return _own(folder, stage, causes[0])
    if root is not None and root[1] < 0:
        name = signal.Signals(-root[1]).name
        return TrainingError(
            f"{stage}: process {root[0]} was killed ({name}). Out of memory? A smaller micro_batch_tokens, "
            f"or a file of configs/accelerate that shares the model, takes less. {_GOES_ON}"
            f"{_tail(folder / LOG.format(root[0]))}"
        )
    if failures:
        return TrainingError(
            f"{stage}: process {failures[0]['process']} lost another one, which ended without a word "
            f"({_first_line(failures[0]['message'])}); its machine may have gone. {_GOES_ON}"
        )
    log = (folder / LAUNCHER_LOG).read_text(encoding="utf-8", errors="replace")
    if root is None and _NOT_ALL_CAME.search(log):
        return TrainingError(
            f"{stage}: the processes did not all come together in time (launch.patience_minutes); do all "
            f"machines run, and can they reach each other?{_tail(folder / LAUNCHER_LOG)}"
        )
    where = LAUNCHER_LOG if root is None else LOG.format(root[0])
    return TrainingError(f"{stage}: the launcher ended with exit code {code}{_tail(folder / where)}")


def _own(folder: Path, stage: str, failure: Mapping[str, Any]) -> LlaraError:
    """The error of a process, as it would have been raised in this one."""
    if failure["ours"]:
        kind = getattr(llara_core.errors, failure["type"], LlaraError)
        error: LlaraError = kind(failure["message"])
        return error
    return TrainingError(
        f"{stage}: process {failure['process']} failed with {failure['type']}: "
        f"{_first_line(failure['message'])}{_tail(folder / LOG.format(failure['process']))}"
    )


def _killed(folder: Path) -> tuple[int, int] | None:
    """Number and exit code of the process that the launcher saw fail first."""
    log = (folder / LAUNCHER_LOG).read_text(encoding="utf-8", errors="replace")
    found = _ROOT_CAUSE.search(log)
    if found is None or (folder / ENDED.format(found[1])).exists():
        return None
    return int(found[1]), int(found[2])


@contextmanager
def _alive(lock: Path) -> Iterator[None]:
    """Hold the lock by which the processes see that this one lives."""
    with lock.open("wb") as file:
        with suppress(ImportError):  # Windows
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _runs(launcher: subprocess.Popen[bytes]) -> bool:
    """Whether it still runs, after a short wait."""
    try:
        launcher.wait(_LOOK)
    except subprocess.TimeoutExpired:
        return True
    return False


def _end(launcher: subprocess.Popen[bytes]) -> None:
    """Ask it to end its processes and itself; then make it."""
    if launcher.poll() is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(launcher.pid, signal.SIGTERM)
    try:
        launcher.wait(_LEAVE)
    except subprocess.TimeoutExpired:
        launcher.kill()
        launcher.wait()


class _Said:
    """What the processes have said so far, as far as it was passed on."""

    def __init__(self, folder: Path, on_log: OnLog | None) -> None:
        self._folder, self._on_log = folder, on_log
        self._read: dict[Path, int] = {}

    def pass_on(self) -> None:
        """Whole new lines of every process to stderr, new points of the curve to ``on_log``."""
        for file in sorted(self._folder.glob(LOG.format("*"))):
            for line in self._new_lines(file):
                _say(line)
        if self._on_log is not None:
            for line in self._new_lines(self._folder / CURVE):
                step, values = json.loads(line)
                self._on_log(int(step), values)

    def _new_lines(self, file: Path) -> list[str]:
        if not file.is_file():
            return []
        with file.open("rb") as source:
            source.seek(self._read.get(file, 0))
            new = source.read()
        whole = new[: new.rfind(b"\n") + 1]  # a line that is still being written waits
        self._read[file] = self._read.get(file, 0) + len(whole)
        return whole.decode("utf-8", errors="replace").splitlines()


def _say(line: str) -> None:
    if os.environ.get("LLARA_LOG_FORMAT") == "json":
        logger.info("%s", line)
    else:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "no message"


def _tail(file: Path) -> str:
    """The last lines of a log, for the end of a message."""
    if not file.is_file():
        return ""
    lines = file.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-_TAIL:]
    return "; the last it said:\n  " + "\n  ".join(lines) if lines else ""
