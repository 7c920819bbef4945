"""Sharing the parts of a search among threads; numpy lets go of the interpreter while it computes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_MOST_WORKERS = 4  # matrix products use the threads of BLAS besides


def workers() -> int:
    """Threads to use: as many as OpenMP is allowed, within reason."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(int(asked) if asked.isdigit() else cores, _MOST_WORKERS))


def in_order(jobs: Sequence[Callable[[], T]]) -> Iterator[T]:
    """Run the jobs on several threads and yield their results in order, few of them waiting at a time."""
    count = min(workers(), len(jobs))
    if count <= 1:
        for job in jobs:
            yield job()
        return
    with ThreadPoolExecutor(count) as executor:
        waiting: list[Future[T]] = []
        try:
            for job in jobs:
                waiting.append(executor.submit(job))
                if len(waiting) > 2 * count:  # one slow job does not leave the others idle
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()
