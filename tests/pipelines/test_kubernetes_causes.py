"""Faults of a cluster, told in words that name the cause and the way out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kubernetes")
pytest.importorskip("kubernetes_validate")

from kubernetes import client, config

from pipelines import kubernetes_causes
from tests.kube import faults
from tests.kube.cluster import CONTEXT, Cluster

PATIENCE = 120  # seconds; a Job takes a tenth of one on a quiet machine


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster") as made:
        yield made


def causes(cluster: Cluster) -> list[kubernetes_causes.Cause]:
    api = config.new_client_from_config(config_file=str(cluster.kubeconfig), context=CONTEXT)
    return kubernetes_causes.of_run(client.CoreV1Api(api), client.BatchV1Api(api), "n", "r")


def start(cluster: Cluster, name: str, step: str | None, **spec: Any) -> None:
    labels = {"run_id": "r"} | ({} if step is None else {"step_name": step})
    container = {
        "name": "main",
        "image": "registry.example.com/llara:1",
        "resources": {"limits": {"memory": "64Gi"}},
    }
    template = {"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    job = {
        "metadata": {"name": name, "labels": labels},
        "spec": {"backoffLimit": 0, "template": template, **spec},
    }
    cluster.jobs.start(cluster.objects.create("jobs", "n", job))


def until_ended(cluster: Cluster, name: str) -> None:
    until = time.monotonic() + PATIENCE
    while not cluster.objects.get("jobs", "n", name)["status"]:
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("fault", "reason", "words"),
    [
        (faults.out_of_memory("adapt"), "OOMKilled", "its memory limit of 64Gi was reached"),
        (faults.evicted("adapt", times=None), "Evicted", "The node was low on resource: memory"),
        (faults.node_lost("adapt", times=None), "DeletionByPodGC", "lost its node"),
        (faults.failing("adapt", code=3), "exit 3", "its own message: kubectl logs work-"),
    ],
)
def test_pods_that_failed(cluster: Cluster, fault: faults.PodFault, reason: str, words: str) -> None:
    cluster.faults.plant(fault)
    start(cluster, "fine", "mine")
    start(cluster, "work", "adapt")
    until_ended(cluster, "fine")
    until_ended(cluster, "work")
    [cause] = causes(cluster)
    assert (cause.what, cause.reason) == ("step adapt", reason)
    assert words in str(cause)


@pytest.mark.parametrize(
    ("fault", "reasons", "words"),
    [
        (
            faults.image_not_pulled("adapt"),
            ["ImagePullBackOff", "DeadlineExceeded"],
            "registry.example.com/llara:1",
        ),
        (
            faults.unschedulable("adapt"),
            ["Unschedulable", "DeadlineExceeded"],
            "3 Insufficient nvidia.com/gpu",
        ),
    ],
)
def test_pods_that_never_started(
    cluster: Cluster, fault: faults.PodFault, reasons: list[str], words: str
) -> None:
    cluster.faults.plant(fault)
    start(cluster, "work", "adapt", activeDeadlineSeconds=1)
    until_ended(cluster, "work")
    found = causes(cluster)
    assert [one.reason for one in found] == reasons
    assert words in str(found[0])


def test_a_job_that_gets_no_pod(cluster: Cluster) -> None:
    """A quota of GPUs does not refuse the Job, but every pod of it: only an event says so."""
    said = 'pods "work-x" is forbidden: exceeded quota: gpu, requested: requests.nvidia.com/gpu=1'
    labels = {"run_id": "r", "step_name": "adapt"}
    cluster.objects.create("jobs", "n", {"metadata": {"name": "work", "labels": labels}, "spec": {}})
    event = {
        "metadata": {"name": "e"},
        "involvedObject": {"name": "work"},
        "reason": "FailedCreate",
        "message": said,
    }
    cluster.objects.create("events", "n", event)
    [cause] = causes(cluster)
    assert cause.reason == "FailedCreate"
    assert "exceeded quota: gpu" in str(cause)
    assert "raise the ResourceQuota" in str(cause)


def test_what_only_the_orchestrators_log_knows(cluster: Cluster) -> None:
    start(cluster, "orchestrator", None)
    until_ended(cluster, "orchestrator")
    [pod] = cluster.objects.list("pods", "n")
    logs = cluster.folder / "logs"
    logs.mkdir()
    refused = (
        '{"reason": "Forbidden", "code": 403, "message": "jobs.batch is forbidden: exceeded quota: gpu"}'
    )
    (logs / f"{pod['metadata']['name']}.log").write_text(
        f"Error calling create_namespaced_job: (403)\nHTTP response body: {refused}\n"
        "\x1b[31mNode \x1b[0m\x1b[38;5;105madapt\x1b[31m failed to start.\x1b[0m\n"
        "HTTP response body: {cut off\n"
        "Skipping node `mine` because upstream node failed.\n"
        "Job for step `segment` failed: Detected container in state `ImagePullBackOff`\n"
        "Node `leaks` failed to start.\nReadTimeoutError: Read timed out. (read timeout=30)"
    )
    quota, late, gone = causes(cluster)
    assert (quota.what, quota.reason) == ("step adapt", "Forbidden")
    assert "exceeded quota: gpu (403); wait until other runs have ended" in str(quota)
    assert (late.what, late.reason) == ("step leaks", "Timeout")
    assert str(gone) == "step segment: Detected container in state `ImagePullBackOff`"


def test_a_run_that_is_well_has_no_causes(cluster: Cluster) -> None:
    start(cluster, "work", "adapt")
    until_ended(cluster, "work")
    assert causes(cluster) == []
