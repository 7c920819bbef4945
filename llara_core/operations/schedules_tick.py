"""One look at the clock: is a run due, was one missed, and is the one before still at work?

The state of a schedule is one small file: up to which instant all that was due has been dealt with. It is
written before a run starts, so a run that is killed is not started twice. Source: issue 6, point 3.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

from llara_core.errors import DataError
from llara_core.files import write_json
from llara_core.operations.schedules_times import Cron, due_times

logger = logging.getLogger(__name__)

_LOOK_BACK = timedelta(days=31)  # what was missed longer ago is not counted
_SKEW = timedelta(hours=1)  # a state further in the future was written by a wrong clock


@dataclass(frozen=True)
class Look:
    """What a look at the clock found.

    Args:
        due: the instant whose run shall start now; None: none.
        missed: instants whose runs will not take place.
    """

    due: datetime | None
    missed: tuple[datetime, ...] = ()


def look(cron: Cron, zone: ZoneInfo, checked: datetime, now: datetime, grace: timedelta) -> Look:
    """Decide.

    Of several due times the latest runs: runs look at the corpus as it is, so making up for each would do
    the same work again.

    Args:
        cron: the schedule.
        zone: of its fields.
        checked: all that was due until then has been dealt with.
        now: aware.
        grace: how late a run may start.
    """
    times = due_times(cron, zone, max(checked, now - _LOOK_BACK), now)
    if not times:
        return Look(None)
    if now - times[-1] <= grace:
        return Look(times[-1], tuple(times[:-1]))
    return Look(None, tuple(times))


@dataclass(frozen=True)
class State:
    """What is remembered of a schedule.

    Args:
        checked: all that was due until then has been dealt with.
        started: when the last run began; None: none did.
        ended: when it ended; None: it runs, or was killed.
        code: its exit code.
    """

    checked: datetime
    started: datetime | None = None
    ended: datetime | None = None
    code: int | None = None

    @classmethod
    def read(cls, file: Path, now: datetime) -> State:
        """Read a state; a new one begins now.

        Raises:
            DataError: the file is damaged.
        """
        if not file.exists():
            return cls(now)
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            state = cls(
                _instant(values["checked"]) or now,
                _instant(values.get("started")),
                _instant(values.get("ended")),
                values.get("code"),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"not the state of a schedule ({error}); delete the file: the schedule begins anew", file=file
            ) from None
        if state.checked > now + _SKEW:
            logger.warning("%s was written by a clock that ran ahead (%s): begun anew", file, state.checked)
            return cls(now)
        return state

    def write(self, file: Path) -> None:
        """Write the state, whole or not at all.

        Raises:
            DataError: the file cannot be written.
        """
        instants = {"checked": self.checked, "started": self.started, "ended": self.ended}
        values = {name: one.isoformat() if one else None for name, one in instants.items()}
        write_json(file, {**values, "code": self.code})


@contextmanager
def only_one(lock: Path) -> Iterator[int | None]:
    """Hold a schedule's lock; gives its file descriptor, or None where a living process holds it.

    A run that inherits the descriptor holds the lock too, should the process that started it be killed.
    The kernel lets go of it when the last of them ends, however it ends: there is nothing to clean up.
    """
    import fcntl

    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield handle
    finally:
        os.close(handle)


def utc_now() -> datetime:
    """The time."""
    return datetime.now(timezone.utc)


def _instant(value: str | None) -> datetime | None:
    if value is None:
        return None
    found = datetime.fromisoformat(value)
    if found.tzinfo is None:
        raise ValueError(f"no time zone in {value!r}")
    return found
