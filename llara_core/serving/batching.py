"""Work of many callers, done together by one thread.

Nobody waits for company: an idle worker takes what comes at once, and what comes while it works is what the
next batch holds. So a lone caller is as fast as without batching, and a crowd shares the cost of each pass.
Source: issue 7, point 3.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from llara_core.errors import LlaraError

logger = logging.getLogger(__name__)
Content = TypeVar("Content")
# Retry-After is made of how fast texts went through lately: a moving mean over about so many batches.
_REMEMBERED = 20


class BusyError(LlaraError):
    """More waits already than may; ``retry_after`` seconds are a good guess at when it will not."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ClosedError(LlaraError):
    """The worker has ended, because the service is being shut down."""


@dataclass(eq=False, slots=True)
class Job(Generic[Content]):
    """One piece of work.

    Args:
        key: hashable; jobs of one key may be done together.
        size: of it, in texts.
        content: what the work needs.
        result: of the caller's event loop; a job whose result was cancelled is not done.
        loop: that event loop.
        queued: when it came; ``time.perf_counter``.
    """

    key: Any
    size: int
    content: Content
    result: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    queued: float = field(default_factory=time.perf_counter)


Work = Callable[[Sequence[Job[Any]]], Sequence[Any]]
Watch = Callable[[int, int, float], None]  # jobs, texts and seconds of a batch


class Worker:
    """A thread with a bounded queue.

    Args:
        name: of the thread, and in messages.
        work: jobs of one key → a result each, or an exception each; it may also raise, for all of them.
        most: texts of one batch; a larger job is a batch of its own.
        room: texts that may wait.
        watch: told of every batch.
    """

    def __init__(self, name: str, work: Work, most: int, room: int, watch: Watch | None = None) -> None:
        self.name, self._work, self._most, self._room = name, work, most, room
        self._watch = watch
        self._waiting: deque[Job[Any]] = deque()
        self._texts = 0
        self._rate = 0.0  # texts a second, lately
        self._open = True
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"llara-{name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Texts in the queue."""
        return self._texts

    def put(self, *jobs: Job[Any]) -> None:
        """Let jobs be done: all of them, or none.

        Raises:
            BusyError: they do not fit into the queue.
            ClosedError: the worker has ended.
        """
        size = sum(job.size for job in jobs)
        with self._changed:
            if not self._open:
                raise ClosedError(f"{self.name}: the service is being shut down")
            if self._texts + size > self._room:
                raise BusyError(
                    f"{self._texts} texts wait already, and at most {self._room} may", self._seconds(size)
                )
            self._waiting.extend(jobs)
            self._texts += size
            self._changed.notify()

    def close(self) -> None:
        """End when what waits is done."""
        with self._changed:
            self._open = False
            self._changed.notify()
        self._thread.join()

    def _seconds(self, size: int) -> float:
        return (self._texts + size) / self._rate if self._rate else 1.0

    def _run(self) -> None:
        while batch := self._next():
            start = time.perf_counter()
            jobs = [job for job in batch if not job.result.cancelled()]
            if jobs:
                _deliver(jobs, self._results(jobs))
            size, seconds = sum(job.size for job in jobs), time.perf_counter() - start
            if jobs:
                rate = size / max(seconds, 1e-6)
                self._rate += (rate - self._rate) / (_REMEMBERED if self._rate else 1)
                if self._watch is not None:
                    self._watch(len(jobs), size, seconds)

    def _next(self) -> list[Job[Any]]:
        """What can be done together with the first job that waits, in order; nothing: closed and empty."""
        with self._changed:
            batch: list[Job[Any]] = []
            while not batch:
                while not self._waiting:
                    if not self._open:
                        return []
                    self._changed.wait()
                batch = self._taken()
            return batch

    def _taken(self) -> list[Job[Any]]:
        """The first job and those of its key that fit beside it; none if all that waited was cancelled."""
        batch: list[Job[Any]] = []
        left: deque[Job[Any]] = deque()
        size = 0
        while self._waiting and size < self._most:
            job = self._waiting.popleft()
            if job.result.cancelled():
                self._texts -= job.size
            elif not batch or (job.key == batch[0].key and size + job.size <= self._most):
                batch.append(job)
                size += job.size
            else:
                left.append(job)
        left.extend(self._waiting)
        self._waiting = left
        self._texts -= size
        return batch

    def _results(self, jobs: Sequence[Job[Any]]) -> Sequence[Any]:
        try:
            return self._work(jobs)
        except Exception as error:
            if len(jobs) == 1:
                return [error]
            # One caller's text must not spoil the answers of the others, nor a batch that memory has no room
            # for those that would each fit.
            logger.warning("%s: %d jobs failed together (%s); each alone", self.name, len(jobs), error)
            return [self._results([job])[0] for job in jobs]


def _deliver(jobs: Sequence[Job[Any]], results: Sequence[Any]) -> None:
    """Hand results over to the loops of the callers: one wake-up a loop."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for job, result in zip(jobs, results, strict=True):
        if result is not None:
            loops.setdefault(job.loop, []).append((job.result, result))
    for loop, found in loops.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, found)


def _settle(found: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, result in found:
        if future.done():  # the caller has gone
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
