"""Progress of long work: a bar with the time left on a terminal, a plain line now and then elsewhere.

Everything goes to stderr, so that a command's stdout stays clean for pipes. Where the log is JSON
(``LLARA_LOG_FORMAT``), a line is a record of it.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from typing_extensions import Self

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

logger = logging.getLogger(__name__)

T = TypeVar("T")
PLAIN_INTERVAL = 10.0  # seconds between two plain lines: enough for a log file, not a flood
_REPORT_CHECK = 0.1  # seconds between two looks at the terminal bar: redrawing costs more than a fast item


class Progress:
    """Count finished units of one long stage; use it as a context.

    On a terminal it draws a bar. Elsewhere it writes one line about every ten seconds, such as
    ``adapt: 120/200 steps, 1.9 steps/s, 42 s left, loss 3.21``; work shorter than that writes nothing.

    Args:
        description: short name of the stage.
        total: units to do; None when unknown (no time left is shown then).
        unit: plural name of a unit.
    """

    def __init__(self, description: str, total: int | None = None, unit: str = "steps") -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = 0
        self._fields: dict[str, object] = {}
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._skipped = 0
        self._started = self._last = time.monotonic()
        self._wrote = False

    def __enter__(self) -> Self:
        """Start the clock, and the bar if stderr is a terminal."""
        self._started = self._last = time.monotonic()
        if sys.stderr.isatty() and not _structured():
            self._bar = _terminal_bar()
            self._bar.start()
            self._task = self._bar.add_task(self.description, total=self.total, note="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar down; a long stage that wrote plain lines gets a last one."""
        if self._bar is not None:
            self._redraw()
            self._bar.stop()
        elif self._wrote:
            self._write_line(time.monotonic())

    def update(self, n: int = 1, **fields: object) -> None:
        """Count ``n`` more finished units.

        Args:
            n: units finished since the last call.
            fields: what else to show, e.g. ``loss=3.21``; a field stays until it is given anew.
        """
        self.done += n
        self._fields.update(fields)
        now = time.monotonic()
        if self._bar is not None:
            if now - self._last >= _REPORT_CHECK:
                self._last = now
                self._redraw()
        elif now - self._last >= PLAIN_INTERVAL:
            self._last = now
            self._write_line(now)

    def skip(self, n: int) -> None:
        """Count ``n`` units that an earlier run has finished: done, but not at this run's speed."""
        self.done += n
        self._skipped += n
        self._redraw()

    def _redraw(self) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done, note=self._note())

    def _note(self) -> str:
        return ", ".join(f"{name} {_shown(value)}" for name, value in self._fields.items())

    def _write_line(self, now: float) -> None:
        elapsed = max(now - self._started, 1e-9)
        rate = (self.done - self._skipped) / elapsed
        parts = [f"{self.done}/{self.total} {self.unit}" if self.total else f"{self.done} {self.unit}"]
        parts.append(f"{rate:.3g} {self.unit}/s")
        if self.total and self.done < self.total and rate > 0:
            parts.append(f"{_duration((self.total - self.done) / rate)} left")
        else:
            parts.append(f"{_duration(elapsed)} so far")
        if self._fields:
            parts.append(self._note())
        self._wrote = True
        line = f"{self.description}: {', '.join(parts)}"
        if _structured():
            logger.info(line)
            return
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def track(
    iterable: Iterable[T], description: str, total: int | None = None, unit: str = "items"
) -> Iterator[T]:
    """Yield the items of ``iterable`` while showing how far the work is.

    Args:
        iterable: the work.
        description: short name of the stage.
        total: number of items; None asks ``len(iterable)`` where there is one.
        unit: plural name of an item.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with Progress(description, total, unit) as progress:
        for item in iterable:
            yield item
            progress.update()


def _terminal_bar() -> RichProgress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    )


def _structured() -> bool:
    """Whether the log is JSON; ``llara_core.operations.logs`` sets it up."""
    return os.environ.get("LLARA_LOG_FORMAT") == "json"


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 120:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
