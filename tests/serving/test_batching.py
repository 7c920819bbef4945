"""The worker: what is done together, what is turned away, and whom a failure concerns."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from llara_core.serving.batching import BusyError, ClosedError, Job, Worker


class Slow:
    """Work that waits to be let go, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.started, self.go = threading.Event(), threading.Event()

    def __call__(self, jobs: Sequence[Job[str]]) -> list[Any]:
        self.batches.append([job.content for job in jobs])
        self.started.set()
        assert self.go.wait(10)
        if any(job.content == "bad" for job in jobs):
            raise ValueError("a bad text")
        return [job.content.upper() for job in jobs]


def job(content: str, key: str = "model", size: int = 1) -> Job[str]:
    loop = asyncio.get_running_loop()
    return Job(key, size, content, loop.create_future(), loop)


async def first(worker: Worker, work: Slow) -> Job[str]:
    """Keep the worker busy with one job, so that what follows waits."""
    one = job("first")
    worker.put(one)
    await asyncio.to_thread(work.started.wait, 10)
    return one


def test_an_idle_worker_waits_for_nobody_and_a_busy_one_takes_all_that_came() -> None:
    async def story(work: Slow, worker: Worker) -> None:
        jobs = [await first(worker, work), *(job(f"t{n}") for n in range(5))]
        worker.put(*jobs[1:3])
        worker.put(*jobs[3:])
        work.go.set()
        assert await asyncio.gather(*(one.result for one in jobs)) == ["FIRST", "T0", "T1", "T2", "T3", "T4"]
        assert work.batches == [["first"], ["t0", "t1", "t2", "t3", "t4"]]

    run(story)


def test_a_batch_holds_one_key_and_at_most_so_many_texts_in_order() -> None:
    async def story(work: Slow, worker: Worker) -> None:
        jobs = [
            await first(worker, work), job("a", "x", 3), job("b", "y"), job("c", "x", 3), job("d", "x", 9),
        ]  # fmt: skip
        worker.put(*jobs[1:])
        work.go.set()
        await asyncio.gather(*(one.result for one in jobs))
        assert work.batches == [["first"], ["a", "c"], ["b"], ["d"]]  # 9 is more than 8, and alone

    run(story)


def test_a_full_queue_turns_away_and_says_for_how_long() -> None:
    async def story(work: Slow, worker: Worker) -> None:
        held = [await first(worker, work), job("a", size=15)]
        worker.put(held[1])
        with pytest.raises(BusyError, match="15 texts wait already, and at most 20 may") as caught:
            worker.put(job("b", size=4), job("c", size=4))  # all or none
        assert caught.value.retry_after > 0
        assert worker.waiting == 15
        worker.put(job("d", size=5))
        work.go.set()
        assert await held[1].result == "A"

    run(story)


def test_what_nobody_waits_for_is_not_done_and_makes_room() -> None:
    async def story(work: Slow, worker: Worker) -> None:
        await first(worker, work)
        gone, stays = job("gone", size=19), job("stays")
        worker.put(gone, stays)
        gone.result.cancel()
        work.go.set()
        assert await stays.result == "STAYS"
        assert work.batches == [["first"], ["stays"]]
        assert worker.waiting == 0

    run(story)


def test_a_text_that_fails_fails_alone() -> None:
    async def story(work: Slow, worker: Worker) -> None:
        jobs = [await first(worker, work), job("good"), job("bad"), job("fine")]
        worker.put(*jobs[1:])
        work.go.set()
        told = await asyncio.gather(*(one.result for one in jobs), return_exceptions=True)
        assert (told[1], told[3]) == ("GOOD", "FINE")
        assert isinstance(told[2], ValueError)

    run(story)


def test_a_closed_worker_finishes_what_waits_and_takes_nothing_more() -> None:
    async def story(work: Slow, worker: Worker) -> None:
        jobs = [await first(worker, work), job("late")]
        worker.put(jobs[1])
        closing = asyncio.create_task(asyncio.to_thread(worker.close))
        work.go.set()
        await closing
        assert await jobs[1].result == "LATE"
        with pytest.raises(ClosedError):
            worker.put(job("too late"))

    run(story)


def run(story: Any) -> None:
    """Tell a story to a worker of batches of 8 and room for 20 texts."""

    async def whole() -> None:
        work = Slow()
        worker = Worker("test", work, 8, 20)
        try:
            await asyncio.wait_for(story(work, worker), 30)
        finally:
            work.go.set()
            worker.close()

    asyncio.run(whole())
