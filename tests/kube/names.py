"""What a cluster's DNS and network do for pods that look for each other, for pods that are processes.

All of them share this machine: a name that would resolve becomes the address of loopback, and the port that a
Service names becomes a free one. In the environment, before the process starts, because torch resolves names
in C++, where nothing can be put in between.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping

from tests.kube.objects import ApiError, Object, Objects
from tests.kube.services import free_port

_NAME = re.compile(r"(?P<host>[a-z0-9-]+)\.(?P<subdomain>[a-z0-9-]+)\.(?P<namespace>[a-z0-9-]+)\.svc")
# A name is known once its pod runs and its Service is there: ZenML makes that right after the Job.
_PATIENCE = 60.0
_LOOK = 0.05


class Names:
    """Resolves names of pods below a headless Service.

    Args:
        objects: of the cluster.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects, self._lock = objects, threading.Lock()
        self._ports: dict[str, int] = {}  # by the uid of a Service

    def resolved(self, pod: Object, environment: Mapping[str, str]) -> dict[str, str]:
        """The environment with addresses; a name that a cluster does not know stays, and resolves to nothing.

        Args:
            pod: whose environment it is; without a subdomain it is in no such Service.
            environment: as its manifest says.
        """
        if "subdomain" not in pod["spec"]:
            return dict(environment)
        found = {name: self._address(value) for name, value in environment.items()}
        service = self._service(pod["metadata"]["namespace"], pod["spec"]["subdomain"])
        if service is None:
            return found
        [port] = service["spec"]["ports"]
        return {
            name: str(self._port(service)) if name.endswith("_PORT") and value == str(port["port"]) else value
            for name, value in found.items()
        }

    def _address(self, value: str) -> str:
        asked = _NAME.fullmatch(value)
        until = time.monotonic() + _PATIENCE
        while asked is not None and time.monotonic() < until:
            if self._is_known(**asked.groupdict()):
                return "127.0.0.1"
            time.sleep(_LOOK)
        return value

    def _is_known(self, host: str, subdomain: str, namespace: str) -> bool:
        service = self._service(namespace, subdomain)
        # Nothing here is ever "ready": a Service that waits for it would publish no address.
        if service is None or not service["spec"].get("publishNotReadyAddresses"):
            return False
        selector = ",".join(f"{key}={value}" for key, value in service["spec"]["selector"].items())
        return any(
            (one["spec"].get("hostname"), one["spec"].get("subdomain")) == (host, subdomain)
            for one in self._objects.list("pods", namespace, selector, "status.phase=Running")
        )

    def _service(self, namespace: str, name: str) -> Object | None:
        try:
            service = self._objects.get("services", namespace, name)
        except ApiError:
            return None
        return service if service["spec"].get("clusterIP") == "None" else None

    def _port(self, service: Object) -> int:
        with self._lock:
            return self._ports.setdefault(service["metadata"]["uid"], free_port())
