"""Every request that reached the API, in memory and as JSON lines, and the permissions they add up to."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.kube.objects import Asked


@dataclass(frozen=True)
class Request:
    """One request and its answer's status; `seconds` since the cluster was started."""

    seconds: float
    method: str
    path: str
    query: dict[str, str]
    body: Any
    user: str
    status: int
    asked: Asked | None


class Recorder:
    """Keeps requests; thread-safe.

    Args:
        folder: gets ``requests.jsonl`` and ``permissions.json``.
    """

    def __init__(self, folder: Path) -> None:
        self._file, self._permissions = folder / "requests.jsonl", folder / "permissions.json"
        self._lock, self._began = threading.Lock(), time.monotonic()
        self.requests: list[Request] = []

    def add(self, request: Request) -> None:
        """Keep one more."""
        with self._lock:
            self.requests.append(request)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(request)) + "\n")

    def elapsed(self) -> float:
        """Seconds since the cluster was started."""
        return time.monotonic() - self._began

    def bodies(self, verb: str = "create", resource: str | None = None) -> list[dict[str, Any]]:
        """Bodies of the requests of a verb that were granted, in their order."""
        with self._lock:
            return [
                one.body
                for one in self.requests
                if one.asked is not None and one.asked.verb == verb and one.status < 300
                and resource in (None, one.asked.resource)
            ]  # fmt: skip

    def permissions(self, user: str | None = None) -> set[tuple[str, str, str]]:
        """(API group, resource, verb) of everything that was asked for; what a Role must grant.

        Args:
            user: a service account's name, or ``person`` for whoever has the kubeconfig; None: all.
        """
        with self._lock:
            return {
                one.asked.permission
                for one in self.requests
                if one.asked is not None and user in (None, one.user)
            }

    def write_permissions(self) -> Path:
        """Write the permissions of each user to a file; returns it."""
        with self._lock:
            users = sorted({one.user for one in self.requests})
        told = {user: sorted(self.permissions(user)) for user in users}
        self._permissions.write_text(json.dumps(told, indent=1), encoding="utf-8")
        return self._permissions
