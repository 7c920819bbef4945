"""What stands between a pod's command and this machine: ``python pod.py -m MODULE ARGUMENTS``.

A container has a host name of its own, and its service account's token at a fixed place; a process of this
machine has neither, so both are put where the program looks for them. Nothing else is changed.
"""

import os
import runpy
import socket
import sys
from pathlib import Path


def main() -> None:
    """Run the module that the pod's command names."""
    name = os.environ["HOSTNAME"]
    socket.gethostname = lambda: name
    if (account := os.environ.pop("POD_SERVICE_ACCOUNT", None)) is not None:
        from kubernetes.config import incluster_config

        incluster_config.SERVICE_TOKEN_FILENAME = f"{account}/token"
        incluster_config.SERVICE_CERT_FILENAME = f"{account}/ca.crt"
    sys.argv = sys.argv[2:]
    sys.path[0] = str(Path.cwd())  # as `python -m` has it
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
