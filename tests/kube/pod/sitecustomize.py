"""What stands between the Python of a pod and this machine; Python imports it by its name when it starts.

A container has a host name of its own, and its service account's token at a fixed place; a process of this
machine has neither, so both are put where programs look for them. Nothing else is changed.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from types import ModuleType
from typing import Any


class _Account:
    """Tells the Kubernetes client where the account's files lie, as soon as it is imported."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def find_spec(self, name: str, *_: Any) -> Any:
        """The module as it is, with other constants."""
        if name != "kubernetes.config.incluster_config":
            return None
        sys.meta_path.remove(self)  # type: ignore[arg-type]
        spec: Any = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            module.SERVICE_TOKEN_FILENAME = f"{self._folder}/token"  # type: ignore[attr-defined]
            module.SERVICE_CERT_FILENAME = f"{self._folder}/ca.crt"  # type: ignore[attr-defined]

        spec.loader.exec_module = exec_module
        return spec


def _own_host_name() -> str:
    return os.environ["HOSTNAME"]


socket.gethostname = _own_host_name
if os.environ.get("LLARA_LOCAL") == os.devnull:  # kept the checkout's own settings out of this process
    del os.environ["LLARA_LOCAL"]
if (account := os.environ.get("POD_SERVICE_ACCOUNT")) is not None:
    sys.meta_path.insert(0, _Account(account))  # type: ignore[arg-type]
