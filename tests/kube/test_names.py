"""Pods of an Indexed Job find each other as a cluster's would, and fall together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("kubernetes")
pytest.importorskip("kubernetes_validate")

from kubernetes import client, config

from tests.kube import faults
from tests.kube.cluster import CONTEXT, Cluster
from tests.kube.names import Names
from tests.kube.test_cluster import PATIENCE, end, job

INDEXED = {"completionMode": "Indexed", "completions": 2, "parallelism": 2}
GIVEN = [
    {"name": "MAIN_ADDRESS", "value": "work-0.work.n.svc"},
    {"name": "MAIN_PORT", "value": "29500"},
    {"name": "OTHER_PORT", "value": "8080"},
]
# A pod that has ended has no address: as nodes that train together, none goes before both have come.
TOGETHER = 'touch "$HOME/came"; until [ "$(ls "$HOME"/../work-*/came | wc -l)" -eq 2 ]; do sleep 0.05; done'


def service(**spec: Any) -> dict[str, Any]:
    told = {"clusterIP": "None", "selector": {"job-name": "work"}, "ports": [{"name": "main", "port": 29500}]}
    return {"metadata": {"name": "work"}, "spec": {**told, "publishNotReadyAddresses": True, **spec}}


def indexed(command: str) -> dict[str, Any]:
    told = job(**INDEXED)
    pod = told["spec"]["template"]["spec"]
    pod["subdomain"] = "work"
    pod["containers"][0] |= {"command": ["sh", "-c", command], "env": GIVEN}
    return told


def send(cluster: Cluster, told: dict[str, Any], offered: dict[str, Any]) -> dict[str, str]:
    """Send both, wait for the end of the Job; what each pod said, by its index."""
    api = config.new_client_from_config(config_file=str(cluster.kubeconfig), context=CONTEXT)
    client.BatchV1Api(api).create_namespaced_job("n", told)
    client.CoreV1Api(api).create_namespaced_service("n", offered)
    end(cluster)
    pods = cluster.objects.list("pods", "n")
    return {
        one["metadata"]["annotations"][faults.INDEX]: cluster.log(one["metadata"]["name"]) for one in pods
    }


def ended(process: int) -> bool:
    """Whether a process ends; who has to bury it may take longer."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if not psutil.pid_exists(process) or psutil.Process(process).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def late(monkeypatch: pytest.MonkeyPatch, hostname: str, hold: Callable[[], object]) -> None:
    """Let one pod begin later than the others, as pulling an image does."""
    resolved = Names.resolved

    def slow(self: Names, pod: Any, environment: Mapping[str, str]) -> dict[str, str]:
        if pod["spec"]["hostname"] == hostname:
            hold()
        return resolved(self, pod, environment)

    monkeypatch.setattr(Names, "resolved", slow)


@pytest.mark.parametrize("slow", ["work-0", "work-1"])
def test_a_headless_service_gives_the_first_pods_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    late(monkeypatch, slow, lambda: time.sleep(0.5))
    words = 'echo "$HOSTNAME $MAIN_ADDRESS $OTHER_PORT"; echo "$MAIN_PORT" >&2; '
    with Cluster(tmp_path / "cluster", processes=True) as cluster:
        said = send(cluster, indexed(words + TOGETHER), service())
    told = {index: text.split() for index, text in said.items()}
    assert {index: words[:3] for index, words in told.items()} == {
        "0": ["work-0", "127.0.0.1", "8080"],
        "1": ["work-1", "127.0.0.1", "8080"],
    }
    # Of their own: processes share the ports that pods do not.
    assert told["0"][3] == told["1"][3] != "29500"


@pytest.mark.parametrize(
    "wrong",
    [{"publishNotReadyAddresses": False}, {"selector": {"job-name": "other"}}, {"clusterIP": "10.0.0.1"}],
)
def test_a_service_that_would_not_resolve_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]
) -> None:
    monkeypatch.setattr("tests.kube.names._PATIENCE", 0.5)
    with Cluster(tmp_path / "cluster", processes=True) as cluster:
        said = send(cluster, indexed('echo "$MAIN_ADDRESS"'), service(**wrong))
    assert set(said.values()) == {"work-0.work.n.svc\n"}


def test_a_pod_that_has_ended_has_no_address_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.kube.names._PATIENCE", 0.5)
    with Cluster(tmp_path / "cluster", processes=True) as cluster:

        def until_the_first_has_ended() -> None:
            until = time.monotonic() + PATIENCE
            while not cluster.objects.list("pods", "n", fields="status.phase=Succeeded"):
                assert time.monotonic() < until
                time.sleep(0.02)

        late(monkeypatch, "work-1", until_the_first_has_ended)
        said = send(cluster, indexed('echo "$MAIN_ADDRESS"'), service())
    assert said["1"] == "work-0.work.n.svc\n"


def test_one_lost_pod_ends_the_job_and_whatever_the_others_run(tmp_path: Path) -> None:
    shell = 'setsid sleep 60 & echo $!; touch "$HOME/begun"; wait'
    with Cluster(tmp_path / "cluster", processes=True) as cluster:
        cluster.faults.plant(faults.node_lost("adapt", index=1, found="pods/work-0-*/begun"))
        told = indexed(shell)
        del told["spec"]["podFailurePolicy"]  # ZenML's step operator gives none
        said = send(cluster, told, service())
        assert end(cluster) == ("Failed", "BackoffLimitExceeded")
        assert len(said) == 2
    assert ended(int(said["0"]))  # though it had a session of its own
