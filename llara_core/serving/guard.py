"""The door: what is refused before anything is computed, and what is noted of every request.

In this order: host, key, room, kind and size of the body. Plain ASGI, because a request passes here even if
nothing else looks at it. Source: issue 7, point 3.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llara_core.serving.refusals import ServiceError

if TYPE_CHECKING:
    from llara_core.serving.service import Service

logger = logging.getLogger(__name__)
PROBES = frozenset(["/healthz", "/readyz"])  # asked by machines that hold no key, and tell nothing
_UNCOUNTED = PROBES | {"/metrics"}  # must answer when nothing else does
_JSON = "application/json"
_BODY_SECONDS = 30.0  # for a body to arrive: who sends a byte a second must not keep a place
_ELSEWHERE = "other"  # label of requests that no route answers: their paths are the client's invention


class Guard:
    """Middleware around everything.

    Args:
        app: what is guarded.
        service: limits and counters.
        keys: any of which opens; none: no key is asked for.
        hosts: names by which the service may be called; none: any.
        open_paths: that need no key besides the probes: a page that asks for the key itself.
    """

    def __init__(
        self,
        app: ASGIApp,
        service: Service,
        keys: Sequence[str] = (),
        hosts: Sequence[str] = (),
        open_paths: Sequence[str] = (),
    ) -> None:
        self._app, self._service = app, service
        self._keys = [key.encode() for key in keys]
        self._hosts = frozenset(host.lower() for host in hosts)
        self._open = PROBES | frozenset(open_paths)
        self._flying = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it; note it in any case."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, seen = time.perf_counter(), _Seen(send, self._service)
        self._flying += 1
        self._service.metrics.flying(self._flying)
        try:
            self._check(scope)
            body = await self._body(scope, receive)
            await self._app(scope, _Replay(body, receive), seen)
        except ServiceError as error:
            await error.response()(scope, receive, seen)
        except Exception:
            # What is wrong with the service is for its log; the client gets no line of it.
            logger.exception("a request failed")
            if not seen.status:
                await ServiceError(500, "internal_error", "the service failed; its log says why").response()(
                    scope, receive, seen
                )
        finally:
            self._flying -= 1
            self._service.metrics.flying(self._flying)
            self._note(scope, seen.status, time.perf_counter() - start)

    def _check(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        path = scope["path"]
        if self._hosts and not self._known(headers.get(b"host", b"")):
            raise ServiceError(
                400, "unknown_host",
                "the service is not called by this name; add it to `hosts` of its configuration",
            )  # fmt: skip
        if self._keys and path not in self._open and not self._opens(headers):
            raise ServiceError(401, "no_key", "send a key: Authorization: Bearer KEY, or X-API-Key: KEY")
        queue, limits = self._service.settings.queue, self._service.settings.limits
        if self._flying > queue.requests and path not in _UNCOUNTED:
            raise ServiceError(
                429, "too_many_requests", f"{queue.requests} requests are being answered", retry_after=1
            )
        if _length(headers) > limits.body_bytes:
            raise _too_large(limits.body_bytes)
        if scope["method"] == "POST":
            kind = headers.get(b"content-type", b"").decode("latin-1").split(";")[0].strip().lower()
            if kind != _JSON:
                raise ServiceError(415, "not_json", f"send JSON, with the header Content-Type: {_JSON}")
            headers[b"content-type"] = _JSON.encode()  # FastAPI takes no capital letters
            scope["headers"] = list(headers.items())

    def _known(self, host: bytes) -> bool:
        name = host.decode("latin-1").lower()
        name = name.rsplit(":", 1)[0] if not name.endswith("]") else name
        return name in self._hosts

    def _opens(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        told = given.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        # All of them are compared, each in constant time: how long it takes tells nothing about any.
        return sum(hmac.compare_digest(told, key) for key in self._keys) > 0

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """The whole body; None where the client hung up before its end.

        Raises:
            ServiceError: 413, it is too large, whatever its headers said; 408, it did not come in time.
        """
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return b""
        most = self._service.settings.limits.body_bytes
        try:
            return await asyncio.wait_for(_read(receive, most), _BODY_SECONDS)
        except (asyncio.TimeoutError, TimeoutError):
            raise ServiceError(
                408, "slow_body", f"the body did not arrive within {_BODY_SECONDS:.0f} s"
            ) from None

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        label = getattr(route, "path", None) or _ELSEWHERE
        self._service.metrics.answered(label, status, seconds)
        level = logging.DEBUG if label in _UNCOUNTED else logging.INFO
        if logger.isEnabledFor(level):
            client = scope.get("client")
            logger.log(
                level, "%s %s %d %.1f ms", scope["method"], label, status, 1000 * seconds,
                extra={
                    "method": scope["method"], "route": label, "status": status,
                    "seconds": round(seconds, 6), "client": client[0] if client else "",
                },
            )  # fmt: skip


class _Seen:
    """Passes messages on, and remembers the status that was sent."""

    def __init__(self, send: Send, service: Service) -> None:
        self._send, self._service, self.status = send, service, 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._service.draining:  # the next request of this client goes to another server
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
        await self._send(message)


class _Replay:
    """Gives a body that was read already, then whatever comes after it."""

    def __init__(self, body: bytes | None, receive: Receive) -> None:
        self._body, self._receive, self._given = body, receive, False

    async def __call__(self) -> Message:
        if self._given:
            return await self._receive()
        self._given = True
        if self._body is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": self._body, "more_body": False}


async def _read(receive: Receive, most: int) -> bytes | None:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise _too_large(most)
        if not message.get("more_body", False):
            return b"".join(parts)


def _length(headers: dict[bytes, bytes]) -> int:
    told = headers.get(b"content-length", b"0")
    return int(told) if told.isdigit() and len(told) < 20 else 0


def _too_large(most: int) -> ServiceError:
    return ServiceError(413, "body_too_large", f"the body is larger than {most} bytes; send it in parts")
