"""What the routes share: the champion, the engine, the counters and the limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.responses import Response
from pydantic_core import to_json

from llara_core.errors import ModelError
from llara_core.serving.batching import BusyError, ClosedError
from llara_core.serving.engine import ClientGoneError, Engine, Hits
from llara_core.serving.metrics import Metrics
from llara_core.serving.refusals import ServiceError

if TYPE_CHECKING:
    from llara_core.model.encoded import Counted
    from llara_core.model.prompts import Kind
    from llara_core.serving.champion import Champion
    from llara_core.serving.served import Served
    from llara_core.serving_settings import ServingSettings

_GONE = 499  # what proxies write down for a client that hung up; nobody reads the answer
# Probes are open to anybody, and the reason itself names folders.
CANNOT_OPEN = "what shall serve cannot be opened; the log says why"
_SOON = 1.0  # seconds: when to ask again while nothing serves


@dataclass
class Service:
    """One running service.

    Args:
        champion: what answers.
        settings: limits.
        draining: SIGTERM has come: what is here is finished, nothing new is wanted.
    """

    champion: Champion
    settings: ServingSettings
    draining: bool = False
    metrics: Metrics = field(default_factory=Metrics)
    engine: Engine = field(init=False)

    def __post_init__(self) -> None:
        """Start the workers."""
        watch = self.metrics.watch
        self.engine = Engine(self.settings.queue, watch("encode"), watch("search"))
        self.metrics.follow(self.champion, self.engine)

    def served(self) -> Served:
        """What answers this request, to be kept until it is answered.

        Raises:
            ServiceError: 503, nothing serves yet.
        """
        served = self.champion.current
        if served is None:
            why = f": {CANNOT_OPEN}" if self.champion.trouble else ""
            raise ServiceError(503, "nothing_serves", f"nothing serves yet{why}", retry_after=_SOON)
        return served

    async def embed(self, served: Served, kind: Kind, texts: Sequence[str], request: Request) -> Counted:
        """Encode the texts of a request.

        Raises:
            ServiceError: too many or too long texts, a full queue, or a model at fault.
        """
        self._check_texts(texts, self.settings.limits.texts, "texts")
        with _told():
            counted = await self.engine.embed(served, kind, texts, request.receive)
        self._count(kind, counted)
        return counted

    async def search(self, served: Served, queries: Sequence[str], k: int, request: Request) -> Hits:
        """Find the passages nearest to each query of a request.

        Raises:
            ServiceError: as ``embed``; also 409 where there is nothing to search, and 422 for a ``k`` above
                the limit.
        """
        limits = self.settings.limits
        self._check_texts(queries, limits.queries, "queries")
        if k > limits.k:
            raise ServiceError(422, "k_too_large", f"k: got {k}, at most {limits.k} are given", param="k")
        if served.index is None:
            raise ServiceError(
                409, "no_corpus",
                "this service encodes only; start it with an index: llara serve --index, or --data",
            )  # fmt: skip
        with _told():
            hits = await self.engine.search(served, queries, k, request.receive)
        self._count("query", hits.queries)
        return hits

    def close(self) -> None:
        """Finish what waits, and stop looking for a champion."""
        self.engine.close()
        self.champion.close()

    def _count(self, kind: str, counted: Counted) -> None:
        self.metrics.encoded(kind, len(counted.cut), int(counted.cut.sum()), int(counted.tokens.sum()))

    def _check_texts(self, texts: Sequence[str], most: int, param: str) -> None:
        if len(texts) > most:
            raise ServiceError(
                422, f"too_many_{param}",
                f"{param}: got {len(texts)}, at most {most} are taken at once; send them in parts",
                    param=param,
            )  # fmt: skip
        longest = self.settings.limits.characters
        for place, text in enumerate(texts):
            if len(text) > longest:
                raise ServiceError(
                    422, "text_too_long",
                    f"{param}.{place}: has {len(text)} characters, at most {longest} are taken",
                    param=f"{param}.{place}",
                )  # fmt: skip


class _told:
    """Turn what the engine raises into what the client is told."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Raise what the client is told."""
        if isinstance(error, BusyError):
            raise ServiceError(429, "queue_full", str(error), retry_after=error.retry_after) from None
        if isinstance(error, TimeoutError):
            raise ServiceError(503, "took_too_long", str(error), retry_after=_SOON) from None
        if isinstance(error, ClosedError):
            raise ServiceError(503, "shutting_down", str(error)) from None
        if isinstance(error, ClientGoneError):
            raise ServiceError(_GONE, "client_gone", "the client has hung up") from None
        if isinstance(error, ModelError):
            raise ServiceError(500, "model_error", str(error)) from None


def as_json(value: Any) -> Response:
    """An answer of plain values; pydantic's own writer is several times as fast as ``json.dumps``."""
    return Response(to_json(value), media_type="application/json")
