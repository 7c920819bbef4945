"""What a run configuration becomes on the API server: submitted once, looked at by many tests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kube.submit import ENVIRONMENT, VALUES

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 600  # seconds for one program that submits and orchestrates; 90 s at most on a quiet machine


@dataclass(frozen=True)
class Submitted:
    """What the API server has seen of a profile's run and of its schedule.

    Args:
        jobs: the orchestrator's own under ``""``, those of steps under the step's name.
        operated: what the step operator made of steps on several pods, under the step's name.
        services: by which those pods find each other.
        cron_job: of the schedule.
        secrets: all that were created.
        bodies: of every request, in their order.
        permissions: file with (API group, resource, verb) of all requests, by user.
    """

    jobs: dict[str, dict[str, Any]]
    operated: dict[str, dict[str, Any]]
    services: list[dict[str, Any]]
    cron_job: dict[str, Any]
    secrets: list[dict[str, Any]]
    bodies: list[Any]
    permissions: Path

    @property
    def steps(self) -> dict[str, dict[str, Any]]:
        """The Jobs of steps."""
        return {name: one for name, one in self.jobs.items() if name}


def _by_step(jobs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["labels"].get("step_name", ""): one for one in jobs}


def quick(profile: Path, folder: Path) -> Path:
    """A copy that looks at its steps more often, and does not ask the cache what the steps would give."""
    values = yaml.safe_load(profile.read_text(encoding="utf-8"))
    values["settings"]["orchestrator.kubernetes"] |= {"job_monitoring_interval": 0.05}
    file = folder / profile.name
    file.write_text(yaml.safe_dump({**values, "enable_cache": False}), encoding="utf-8")
    return file


def run_program(words: list[str], folder: Path, kubeconfig: Path) -> Any:
    """Run ``python -m WORDS`` with a state of its own; returns the JSON that it prints last."""
    from tests.kube.services import plain_environment

    environment = {
        **plain_environment(), **ENVIRONMENT, "KUBECONFIG": str(kubeconfig),
        "LLARA_LOCAL": str(folder / "local"), "ZENML_ANALYTICS_OPT_IN": "false",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def write_values(folder: Path) -> Path:
    """The environment file of a cluster that exists only in tests."""
    file = folder / "kubernetes.env"
    file.write_text("".join(f"{name}={value}\n" for name, value in VALUES.items()), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def submit(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Submitted]:
    """Submit a profile of ``configs/kubernetes``, the first time that somebody asks for it."""
    for package in ("kubernetes", "kubernetes_validate", "zenml"):
        pytest.importorskip(package)
    known: dict[str, Submitted | AssertionError] = {}

    def submitted(name: str) -> Submitted:
        if name not in known:
            try:
                known[name] = _submitted(name, tmp_path_factory.mktemp(name))
            except AssertionError as error:  # once is enough
                known[name] = error
        found = known[name]
        if isinstance(found, AssertionError):
            raise found
        return found

    return submitted


def _submitted(name: str, folder: Path) -> Submitted:
    from tests.kube.cluster import Cluster

    profile = quick(ROOT / "configs" / "kubernetes" / f"{name}.yaml", folder)
    # Not strict: what is wrong with a manifest shall be told by the test that looks for it.
    with Cluster(folder / "cluster", strict=False) as cluster:
        words = ["tests.kube.submit", str(write_values(folder)), str(profile)]
        run_program(words, folder, cluster.kubeconfig)
    recorder = cluster.recorder
    operated, jobs = [], []
    for one in recorder.bodies("create", "jobs"):
        (operated if "step_run_id" in one["metadata"]["labels"] else jobs).append(one)
    [cron_job] = recorder.bodies("create", "cronjobs")
    return Submitted(
        _by_step(jobs), _by_step(operated), recorder.bodies("create", "services"), cron_job,
        recorder.bodies("create", "secrets"), [one.body for one in recorder.requests],
        recorder.write_permissions(),
    )  # fmt: skip


@pytest.fixture(scope="session")
def recorded_permissions(submit: Callable[[str], Submitted]) -> Path:
    """File with what ZenML asked of the API, as ``{user: [[group, resource, verb], …]}``."""
    return submit("gpu-1").permissions
