"""`llara schedule` against a real Kubernetes orchestrator of ZenML, whose API server only records."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("kubernetes")
pytest.importorskip("kubernetes_validate")

from tests.kube.cluster import Cluster
from tests.kube.services import plain_environment

ROOT = Path(__file__).resolve().parents[2]
SET_UP = """
from pipelines import environment
environment.apply()
from zenml.client import Client
from zenml.enums import StackComponentType as Kind
client = Client()
def make(kind, flavor, **configuration):
    return client.create_stack_component(
        name="remote", flavor=flavor, component_type=kind, configuration=configuration
    ).id
ids = {
    Kind.ORCHESTRATOR: [make(
        Kind.ORCHESTRATOR, "kubernetes", kubernetes_context="llara-test", kubernetes_namespace="zenml",
        skip_local_validations=True, local=True,
    )],
    Kind.CONTAINER_REGISTRY: [make(Kind.CONTAINER_REGISTRY, "default", uri="registry.example.com")],
    Kind.ARTIFACT_STORE: [client.active_stack_model.components[Kind.ARTIFACT_STORE][0].id],
}
client.create_stack(name="remote", components=ids)
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster that records, and whose Jobs are done at once."""
    with Cluster(tmp_path / "cluster") as made:
        yield made


@pytest.fixture
def environment(tmp_path: Path, cluster: Cluster) -> dict[str, str]:
    """Of a state with a stack `remote` on that cluster."""
    made = plain_environment() | {
        "LLARA_LOCAL": str(tmp_path / "local"), "LLARA_PROJECT": str(ROOT), "LLARA_CRONTAB": "false",
        "KUBECONFIG": str(cluster.kubeconfig), "LLARA_TINY": str(tmp_path / "tiny"),
    }  # fmt: skip
    subprocess.run([sys.executable, "-c", SET_UP], env=made, cwd=ROOT, check=True)
    return made


def cron_jobs(cluster: Cluster) -> list[dict[str, Any]]:
    return [one["spec"] for one in cluster.objects.list("cronjobs", "zenml")]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_schedule_becomes_one_cron_job(
    tmp_path: Path, cluster: Cluster, environment: dict[str, str]
) -> None:
    folder = tmp_path / "schedules"
    folder.mkdir()
    config = yaml.safe_load((ROOT / "configs" / "tiny.yaml").read_text())
    image = "registry.example.com/llara@sha256:" + "a" * 64
    config.setdefault("settings", {})["docker"] = {"skip_build": True, "parent_image": image}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    file = folder / "nightly.yaml"
    text = f"pipeline: training\nconfig: {tmp_path / 'run.yaml'}\nstack: remote\ntimezone: Europe/Berlin\n"
    file.write_text(text + "cron: '30 3 * * *'\ngrace_minutes: 60\n")

    def call(*words: str) -> str:
        command = [sys.executable, "-m", "llara_core.cli", "schedule", *words]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def state() -> list[tuple[Any, ...]]:
        keys = ("schedule", "timeZone", "startingDeadlineSeconds", "suspend")
        return [tuple(one.get(key) for key in keys) for one in cron_jobs(cluster)]

    assert "nightly: created" in call("apply", "--folder", str(folder))
    [first] = state()
    assert first[:3] == ("30 3 * * *", "Europe/Berlin", 3600)
    assert not first[3]
    assert "nothing to change" in call("apply", "--folder", str(folder))
    assert state() == [first]
    call("pause", "nightly")
    assert [one[3] for one in state()] == [True]
    file.write_text(text + "cron: '45 4 * * *'\ngrace_minutes: 60\n")
    assert "nightly: updated" in call("apply", "--folder", str(folder))
    assert state() == [("45 4 * * *", "Europe/Berlin", 3600, True)]  # and still paused
    call("resume", "nightly")
    [row] = json.loads(call("list", "--json", "--folder", str(folder)))
    assert row["state"] == "active"
    file.unlink()
    assert "its file is gone" in call("apply", "--folder", str(folder))
    assert state() == []
