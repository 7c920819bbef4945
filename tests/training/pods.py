"""Pods of an Indexed Job as processes, with exactly the variables that ZenML's step operator gives them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from zenml.integrations.kubernetes.kube_utils import multi_pod_environment

ROOT = Path(__file__).resolve().parents[2]


def start_pods(
    volume: Path, name: str, count: int = 2, only: tuple[int, ...] = ()
) -> list[subprocess.Popen[str]]:
    """The command of the command step, once per pod; what a pod says is its process's stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = multi_pod_environment("job", "zenml", count)
    # A cluster's DNS resolves the first pod's name; and pods do not share their ports, as processes here do.
    given |= {"ZENML_KUBERNETES_MAIN_ADDRESS": "127.0.0.1", "ZENML_KUBERNETES_MAIN_PORT": str(port)}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "llara_core.training.nodes", name],
            cwd=ROOT, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env={
                **os.environ, **given, "JOB_COMPLETION_INDEX": str(number), "OMP_NUM_THREADS": "1",
                "LLARA_CHECKPOINTS": str(volume), "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true",
            },
        )
        for number in only or range(count)
    ]  # fmt: skip


def ended(pods: list[subprocess.Popen[str]], within: float = 900.0) -> list[tuple[int, str]]:
    """How each pod ended, and what it said; one that does not end in time is a failure of the test."""
    until = time.monotonic() + within
    try:
        said = [pod.communicate(timeout=max(1.0, until - time.monotonic()))[1] for pod in pods]
        return [(pod.returncode, text) for pod, text in zip(pods, said, strict=True)]
    finally:
        for pod in pods:
            pod.kill()


def workers_of(pod: subprocess.Popen[str]) -> list[int]:
    """The processes that train below a pod: its launcher's children."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            stat = (place / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it has just ended
        parents[int(place.name)] = int(stat[1])
    launchers = {child for child, parent in parents.items() if parent == pod.pid}
    return [child for child, parent in parents.items() if parent in launchers]
