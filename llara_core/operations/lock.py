"""A lock that dies with its holder: one retraining at a time, and none blocked by a crash.

The kernel holds the lock (``flock``), so there is no lease to renew and nothing to clean up: it is free when
the last process that has it open has ended, however it ended. What stands beside it in ``<name>.json`` (who,
where, since when) is for the reader alone and decides nothing. Source: issue 6, point 2.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import sys
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from llara_core.errors import LlaraError
from llara_core.files import write_json

logger = logging.getLogger(__name__)

_PAUSE = 0.05  # seconds
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}


class LockError(LlaraError):
    """The lock cannot be taken for another reason than that somebody holds it."""


@dataclass(frozen=True)
class Holder:
    """Who took a lock, as it stands beside it.

    Args:
        run: what the holder calls its work, e.g. the name of a pipeline run.
        host: name of its machine.
        pid: of its process there.
        boot: id of that machine's boot; empty where the system tells none.
        born: when the process began, in clock ticks since boot; 0 where the system does not tell.
        started: when it took the lock; ISO 8601, UTC.
        command: how it was started.
        doing: what it does at present.
    """

    run: str
    host: str
    pid: int
    boot: str
    born: int
    started: str
    command: str
    doing: str = ""

    @classmethod
    def here(cls, run: str) -> Holder:
        """This process."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        command = " ".join(Path(word).name if not place else word for place, word in enumerate(sys.argv))
        return cls(run, socket.gethostname(), os.getpid(), _boot(), _born(os.getpid()), now, command)

    @property
    def gone(self) -> bool:
        """Whether the process has surely ended: it is of another boot, or its number is free or reused.

        Of another machine nothing is sure.
        """
        if self.host != socket.gethostname():
            return False
        if self.boot != _boot():
            return True
        return _born(self.pid) != self.born if self.born else not _exists(self.pid)

    def words(self) -> str:
        """One line for people."""
        doing = f", {self.doing}" if self.doing else ""
        return f"run {self.run} (process {self.pid} on {self.host}, since {self.started}{doing})"


class Held:
    """A lock that this process holds.

    Args:
        file: the lock file.
        handle: its open descriptor. A child that inherits it (``pass_fds``) holds the lock too, should this
            process be killed.
        holder: what stands beside it.
        crashed: who had it before and never let go; None: nobody.
    """

    def __init__(self, file: Path, handle: int, holder: Holder, crashed: Holder | None) -> None:
        self.file, self.handle, self.holder, self.crashed = file, handle, holder, crashed

    def note(self, doing: str) -> None:
        """Tell readers what is done at present."""
        self.holder = Holder(**{**asdict(self.holder), "doing": doing})
        write_json(_beside(self.file), asdict(self.holder))

    def release(self) -> None:
        """Let go; safe to repeat."""
        if self.handle < 0:
            return
        _beside(self.file).unlink(missing_ok=True)  # first: whoever takes the lock next must see no crash
        os.close(self.handle)
        self.handle = -1


def take(file: Path, run: str, tries: int = 5) -> Held | Holder:
    """Take a lock, or tell who has it; waits for nobody.

    Args:
        file: the lock file; made where it is missing, never removed (two could lock a removed one).
        run: what this process calls its work.
        tries: after a failure, a twentieth of a second apart, unless a living process says that it has the
            lock.

    Returns:
        ``Held`` if it is ours now; otherwise the ``Holder`` as far as it has told of itself.

    Raises:
        LockError: the file system has no locks, or the file cannot be opened.
    """
    try:
        import fcntl
    except ImportError:  # pragma: no cover - Windows
        raise LockError(f"{file}: this system has no flock; run the retraining on Linux or macOS") from None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise LockError(
            f"{file}: the lock cannot be opened ({error.strerror}); mend its permissions"
        ) from None
    try:
        while not _locked(handle, fcntl.LOCK_EX | fcntl.LOCK_NB):
            found, tries = holder(file), tries - 1
            if tries < 0 or (found is not None and not found.gone):
                os.close(handle)
                return found or Holder("unknown", "unknown host", 0, "", 0, "a moment ago", "")
            time.sleep(_PAUSE)  # `llara gc` holds a lock for an instant to see whether anybody has it
    except OSError as error:
        os.close(handle)
        raise _no_locks(file, error) from None
    crashed = _left_behind(file, run)
    held = Held(file, handle, Holder.here(run), crashed)
    try:
        held.note("")
    except BaseException:
        os.close(handle)
        raise
    return held


def _locked(handle: int, how: int) -> bool:
    import fcntl

    try:
        fcntl.flock(handle, how)
    except BlockingIOError:
        return False
    return True


def holder(file: Path) -> Holder | None:
    """Who stands beside a lock; None where nobody does, or it cannot be read."""
    try:
        return Holder(**json.loads(_beside(file).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _left_behind(file: Path, run: str) -> Holder | None:
    """Who had the lock and ended without letting go; told in the log."""
    found = holder(file)
    if found is None or found.run == run:  # the same run's step before, in a process of its own
        return None
    logger.warning("%s ended without letting go of its lock: %s takes over.", found.words(), run)
    return found


def _no_locks(file: Path, error: OSError) -> LockError:
    reason = error.strerror or str(error)
    if error.errno in _NO_LOCKS:
        return LockError(
            f"{file}: this file system has no locks ({reason}), so two retrainings could run at once; put "
            "LLARA_LOCAL on a local disk, or on a network file system with locks (NFS 4)"
        )
    return LockError(f"{file}: the lock cannot be taken ({reason})")


def _beside(file: Path) -> Path:
    return file.with_suffix(".json")


def _boot() -> str:
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _born(pid: int) -> int:
    """When a process began, in clock ticks since boot; 0 where there is none, or no ``/proc``."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    # The name of the program may hold blanks and brackets; after its last bracket come fields 3, 4, ….
    return int(text.rpartition(")")[2].split()[19])


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
