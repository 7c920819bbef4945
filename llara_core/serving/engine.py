"""Encoding and searching for many callers at once: two workers, one after the other.

The encoder hands vectors straight on to the searcher, so that a GPU is at the next batch while the CPU
searches for this one. Source: issue 7, point 3.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llara_core.errors import ModelError
from llara_core.serving.batching import Job, Watch, Worker

if TYPE_CHECKING:
    from llara_core.model.encoded import Counted
    from llara_core.model.prompts import Kind
    from llara_core.serving.served import Served
    from llara_core.serving_settings import QueueSettings

# A request that is answered sooner is not watched for a client that hangs up: most are, and watching costs.
_UNWATCHED = 0.05  # seconds
Receive = Callable[[], Awaitable[Any]]


class ClientGoneError(Exception):
    """The client has hung up: nobody waits for the answer."""


@dataclass(frozen=True)
class Hits:
    """What a search has found.

    Args:
        scores: float32 [Q, K].
        rows: of the index, int64 [Q, K].
        queries: what the queries took.
        encoding: seconds from the arrival of the queries to their vectors, waiting included.
        searching: seconds from there to the results.
    """

    scores: NDArray[np.float32]
    rows: NDArray[np.int64]
    queries: Counted
    encoding: float
    searching: float


@dataclass(frozen=True)
class _Texts:
    """What is to be encoded, and searched for where ``k`` is given."""

    texts: Sequence[str]
    k: int | None = None


@dataclass(frozen=True)
class _Vectors:
    queries: Counted
    encoding: float


class Engine:
    """What a service encodes and searches with.

    Args:
        settings: of the queue.
        encoded: told of every batch that was encoded.
        searched: told of every batch that was searched for.
    """

    def __init__(
        self, settings: QueueSettings, encoded: Watch | None = None, searched: Watch | None = None
    ) -> None:
        self._most, self._seconds = settings.batch_texts, settings.seconds
        self._encoder = Worker("encode", self._encode, self._most, settings.texts, encoded)
        # What comes from the encoder is never turned away: it was let in there, and the requests are counted.
        self._searcher = Worker("search", self._search, self._most, sys.maxsize, searched)

    @property
    def waiting(self) -> int:
        """Texts that wait to be encoded."""
        return self._encoder.waiting

    async def embed(
        self, served: Served, kind: Kind, texts: Sequence[str], receive: Receive | None = None
    ) -> Counted:
        """Encode texts, a batch at a time so that others come in between.

        Args:
            served: what encodes.
            kind: ``query`` or ``passage``.
            texts: N texts.
            receive: of the request, to notice a client that hangs up.

        Raises:
            BusyError: the queue is full.
            ClientGoneError: the client hung up.
            TimeoutError: it took longer than a request may.
            ModelError: the model gave NaN.
        """
        from llara_core.model.encoded import Counted

        parts = [_Texts(texts[at : at + self._most]) for at in range(0, len(texts), self._most)]
        found = await self._done(
            [self._job((served, kind), len(part.texts), part) for part in parts], receive
        )
        if len(found) == 1:
            counted: Counted = found[0]
            return counted
        return Counted(
            np.concatenate([one.vectors for one in found]),
            np.concatenate([one.tokens for one in found]),
            np.concatenate([one.cut for one in found]),
        )

    async def search(
        self, served: Served, queries: Sequence[str], k: int, receive: Receive | None = None
    ) -> Hits:
        """Encode queries and find the passages nearest to each; raises as ``embed``.

        Args:
            served: what encodes and holds the index.
            queries: Q texts, at most a batch.
            k: results of each.
            receive: of the request.
        """
        job = self._job((served, "query"), len(queries), _Texts(queries, k))
        (found,) = await self._done([job], receive)
        hits: Hits = found
        return hits

    def close(self) -> None:
        """End when what waits is done; the encoder first, because it hands on to the searcher."""
        self._encoder.close()
        self._searcher.close()

    @staticmethod
    def _job(key: tuple[Served, Kind], size: int, content: _Texts) -> Job[_Texts]:
        loop = asyncio.get_running_loop()
        return Job(key, size, content, loop.create_future(), loop)

    async def _done(self, jobs: list[Job[_Texts]], receive: Receive | None) -> list[Any]:
        self._encoder.put(*jobs)
        # Most requests are one job: its own future costs less than a gathered one.
        everything = jobs[0].result if len(jobs) == 1 else asyncio.gather(*(job.result for job in jobs))
        try:
            await _settled(everything, self._seconds, receive)
            return [everything.result()] if len(jobs) == 1 else list(everything.result())
        finally:  # what nobody waits for any more is not encoded
            everything.cancel()
            for job in jobs:
                job.result.cancel()

    def _encode(self, jobs: Sequence[Job[_Texts]]) -> list[Any]:
        served, kind = jobs[0].key
        counted = served.retriever.encode_counted([text for job in jobs for text in job.content.texts], kind)
        results: list[Any] = []
        start, now = 0, time.perf_counter()
        for job in jobs:
            part = counted.part(slice(start, start + job.size))
            start += job.size
            if not np.isfinite(part.vectors).all():
                results.append(ModelError("the model gave a vector that holds NaN or infinity for this text"))
            elif job.content.k is None:
                results.append(part)
            else:
                self._hand_on(job, part, now)
                results.append(None)
        return results

    def _hand_on(self, job: Job[_Texts], part: Counted, now: float) -> None:
        key = (*job.key, job.content.k)
        content = _Vectors(part, now - job.queued)
        self._searcher.put(Job(key, job.size, content, job.result, job.loop, now))

    @staticmethod
    def _search(jobs: Sequence[Job[_Vectors]]) -> list[Any]:
        served, _, k = jobs[0].key
        queries = np.concatenate([job.content.queries.vectors for job in jobs])
        scores, rows = served.index.search(queries, k, served.fingerprint)
        start, now = 0, time.perf_counter()
        results = []
        for job in jobs:
            part = slice(start, start + job.size)
            start += job.size
            told = job.content
            results.append(Hits(scores[part], rows[part], told.queries, told.encoding, now - job.queued))
        return results


async def _settled(answer: asyncio.Future[Any], seconds: float, receive: Receive | None) -> None:
    """Wait for an answer while the client does.

    Raises:
        ClientGoneError: the client has hung up.
        TimeoutError: it took too long.
    """
    await asyncio.wait({answer}, timeout=seconds if receive is None else _UNWATCHED)
    if not answer.done() and receive is not None:
        gone = asyncio.ensure_future(_hung_up(receive))
        try:
            await asyncio.wait({answer, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if gone.done() and not answer.done():
                raise ClientGoneError
        finally:
            gone.cancel()
    if not answer.done():
        raise TimeoutError(f"no answer within {seconds:g} s")


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
