"""Does a server answer at all? Asked first where its own client would try for minutes."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_PORTS = {"http": 80, "https": 443}


def answers(url: str, timeout: float) -> bool:
    """Whether something takes connections at a URL; true where a proxy stands before it.

    Args:
        url: with scheme and host; its path does not count.
        timeout: seconds.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 443)
        if getproxies().get(parts.scheme) and not proxy_bypass(host):
            return True  # only the proxy can tell; the server's own client asks it
        with socket.create_connection((host, port), timeout=timeout):
            return True
    except (OSError, ValueError):
        return False
