"""An address, and a server on it that goes as it came: without a request being cut off.

SIGTERM (or Ctrl-C): ``/readyz`` says no; after ``linger_seconds`` the door is shut; requests in flight are
answered, and those of clients that were let in before; the process ends with 0. A second Ctrl-C ends it at
once. Source: issue 7, point 3.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from llara_core.errors import ConfigError
from llara_core.serving.service import Service

if TYPE_CHECKING:
    from fastapi import FastAPI

    from llara_core.serving_settings import ServingSettings

logger = logging.getLogger(__name__)
_BACKLOG = 2048  # connections that may wait to be accepted; the operating system has a limit of its own
# Longer than the minute after which load balancers let go of an idle connection: whoever closes first must
# not be the one to which a request is on its way.
_KEEP_ALIVE = 75  # seconds
# A client that was let in just before the door was shut has not said yet what it wants.
_ASKING = 1.0  # seconds
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class Server(uvicorn.Server):
    """uvicorn's server, with a way to end that tells the load balancer first.

    Args:
        app: the application.
        service: is told that it is being shut down.
        settings: how long it may take.
    """

    def __init__(self, app: FastAPI, service: Service, settings: ServingSettings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,  # lines go where the command sends them
                access_log=False,  # the door writes one itself
                server_header=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
            )
        )
        self._service, self._linger = service, settings.linger_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End, or end at once where it was told to already."""
        if self._service.draining and sig == signal.SIGINT:
            self.force_exit = True
        if self._service.draining:
            self.should_exit = True
            return
        self._service.draining = True
        logger.info("Shutting down: requests in flight are answered")
        if self._linger:
            timer = threading.Timer(self._linger, self._shut)
            timer.daemon = True
            timer.start()
        else:
            self._shut()

    def _shut(self) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut the door, hear whoever is inside, and only then close what is idle.

        Args:
            sockets: those that listen.
        """
        await self._shut_the_door(sockets or [])
        until = time.monotonic() + _ASKING
        while self.server_state.connections and time.monotonic() < until and not self.force_exit:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)

    async def _shut_the_door(self, sockets: list[socket.socket]) -> None:
        """Close the sockets that listen, and let in who stands before them: the system would cut them off."""
        waiting: list[socket.socket] = []
        for listening in sockets:
            listening.listen(0)  # one more may come while the others are taken, instead of thousands
            listening.setblocking(False)
            with suppress(OSError):  # nobody stands there any more, or no file can be opened for them
                while True:
                    waiting.append(listening.accept()[0])
        for server in self.servers:
            server.close()
        for listening in sockets:
            listening.close()
        loop = asyncio.get_running_loop()
        for client in waiting:
            with suppress(OSError):  # it has gone away meanwhile
                await loop.connect_accepted_socket(self._protocol, client)

    def _protocol(self) -> asyncio.Protocol:
        """What uvicorn makes for each connection."""
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens on an address.

    Args:
        host: a name or an IP address.
        port: 0: any that is free.

    Raises:
        ConfigError: there is no such address here, or somebody else has the port.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind)
    except OSError as error:
        raise ConfigError(f"--host {host}: is no address of this machine ({error})") from None
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(_BACKLOG)
    except OSError as error:
        found.close()
        raise ConfigError(
            f"{host}:{port}: cannot be used ({error.strerror}); choose another --port, or --port 0 for any"
        ) from None
    return found


def url_of(listening: socket.socket) -> str:
    """The address of a socket as one types it; an address of all devices as the loopback device."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def is_loopback(listening: socket.socket) -> bool:
    """Whether only this machine can reach it."""
    return ipaddress.ip_address(listening.getsockname()[0].split("%")[0]).is_loopback


def hosts_for(listening: socket.socket, settings: ServingSettings) -> tuple[str, ...]:
    """Names by which the service may be called; none: any."""
    if "*" in settings.hosts:
        return ()
    return settings.hosts or (_LOOPBACK_NAMES if is_loopback(listening) else ())
