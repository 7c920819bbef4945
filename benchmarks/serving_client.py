"""A closed loop of clients over HTTP/1.1, in a process of its own: requests a second and latencies.

Each client has one connection and sends its next request when the answer to the last is whole. Nothing is
parsed but the length, so that one core can keep a server of one core busy; ``--empty`` serves empty answers,
against which the clients' own ceiling is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

_HEAD_END = b"\r\n\r\n"
_EMPTY_BODY = b"0" * 8000  # about what a vector of 384 numbers takes as JSON


class Client(asyncio.Protocol):
    """One connection that asks again and again.

    Args:
        requests: bytes of whole requests, taken in turn.
        first: the one to begin with.
        until: ``time.perf_counter`` at which to stop.
        most: requests to send at most.
    """

    def __init__(self, requests: Sequence[bytes], first: int, until: float, most: int) -> None:
        self.requests, self.place, self.until, self.left = requests, first, until, most
        self.seconds: list[float] = []
        self.failed = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._buffer = b""
        self._wanted = -1  # bytes of the whole answer, once its head is known

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._sent = time.perf_counter()
        if self._sent >= self.until or self.left == 0:
            self._transport.close()
            return
        self.left -= 1
        self._transport.write(self.requests[self.place % len(self.requests)])
        self.place += 1

    def data_received(self, data: bytes) -> None:
        """Take what came; ask again when the answer is whole."""
        self._buffer = self._buffer + data if self._buffer else data
        if self._wanted < 0:
            head, found, _ = self._buffer.partition(_HEAD_END)
            if not found:
                return
            self._wanted = len(head) + len(_HEAD_END) + _length(head)
            self.failed += not head.startswith(b"HTTP/1.1 200")
        if len(self._buffer) >= self._wanted:
            self.seconds.append(time.perf_counter() - self._sent)
            self._buffer, self._wanted = b"", -1
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, ours or the server's."""
        self.failed += exc is not None
        if not self.done.done():
            self.done.set_result(None)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ValueError("the answer has no content-length")


def request(host: str, port: int, path: str, body: object) -> bytes:
    """A whole POST request."""
    content = json.dumps(body).encode()
    lines = (
        f"POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    return lines.encode() + content


async def load(
    port: int, path: str, bodies: Sequence[object], clients: int, seconds: float, most: int
) -> dict[str, object]:
    """Let clients ask for some seconds.

    Args:
        port: on 127.0.0.1.
        path: of the endpoint.
        bodies: of requests, taken in turn from a place of each client's own.
        clients: connections.
        seconds: after which none is sent any more.
        most: requests a client sends at most.

    Returns:
        ``seconds`` of the whole, ``latencies`` of every answer, and how many ``failed``.
    """
    requests = [request("127.0.0.1", port, path, body) for body in bodies]
    loop = asyncio.get_running_loop()
    start = time.perf_counter()
    made = []
    for number in range(clients):
        first = number * len(requests) // clients
        _, client = await loop.create_connection(
            lambda first=first: Client(requests, first, start + seconds, most), "127.0.0.1", port
        )
        made.append(client)
    _, late = await asyncio.wait([client.done for client in made], timeout=seconds + 30)
    latencies = [one for client in made for one in client.seconds]
    return {
        "seconds": time.perf_counter() - start,
        "latencies": latencies,
        "failed": sum(client.failed for client in made) + len(late),
    }


class Empty(asyncio.Protocol):
    """Answers every request with the same bytes, without looking at it."""

    _ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(_EMPTY_BODY) + _EMPTY_BODY

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """One answer a request; the clients send each in one piece."""
        assert isinstance(self._transport, asyncio.Transport)
        self._transport.write(self._ANSWER)


async def serve_empty(port: int) -> None:
    """Serve empty answers until killed."""
    server = await asyncio.get_running_loop().create_server(Empty, "127.0.0.1", port)
    await server.serve_forever()


def main() -> int:
    """Read what to do from stdin as JSON, and print what came of it; exits 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--empty", type=int, metavar="PORT", help="serve empty answers instead")
    parser.add_argument("--job", type=Path, help="JSON file of what `load` takes")
    parser.add_argument("--cores", default="", help="cores to stay on, with commas between")
    chosen = parser.parse_args()
    if chosen.cores:
        os.sched_setaffinity(0, {int(one) for one in chosen.cores.split(",")})
    if chosen.empty:
        asyncio.run(serve_empty(chosen.empty))
        return 0
    json.dump(asyncio.run(load(**json.loads(chosen.job.read_text()))), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
