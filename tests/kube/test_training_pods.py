"""Training on two nodes through the API server: ZenML's Indexed Job for our command step, pods as processes.

Job and Service are those that ZenML's step operator has sent for ``configs/kubernetes/multi-node.yaml``, now
sent to a cluster that runs pods. The request lies on the volume under the name that the pipeline gave it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kubernetes")
pytest.importorskip("kubernetes_validate")
pytest.importorskip("zenml")

from kubernetes import client, config
from safetensors.torch import load_file

from llara_core.config import AdaptSettings
from llara_core.launch_settings import LaunchSettings
from llara_core.model.bundle import read_bundle
from llara_core.training.node_request import NodeRequest
from tests.kube import faults
from tests.kube.cluster import CONTEXT, Cluster
from tests.kube.conftest import Submitted
from tests.kube.submit import NAMESPACE
from tests.training.test_nodes import asked
from tests.training.two_processes import SEED, make_base

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]  # a busy machine takes ten times as long
PATIENCE = 900.0  # seconds for one Job
STEP = "adapt_on_nodes"
VOLUME = "volumes/llara-checkpoints"
CHECKPOINT = f"{VOLUME}/adapt/run-*/step-*/manifest.json"
# Long enough to be interrupted; so few and small steps that another order of sums shows in the last digit.
LONG = {"steps": 60, "checkpoint_every": 5, "learning_rate": 1e-4}


@dataclass(frozen=True)
class Sent:
    """What the step operator has sent for two pods."""

    job: dict[str, Any]
    service: dict[str, Any]

    @property
    def request(self) -> str:
        """Name of the request that the pods are told."""
        return str(self.job["spec"]["template"]["spec"]["containers"][0]["args"][-1])

    def named(self, name: str) -> Sent:
        """The same under another name, as the step operator gives one to each try."""
        text = json.dumps([self.job, self.service])
        return Sent(*json.loads(text.replace(self.job["metadata"]["name"], name)))


@pytest.fixture(scope="module")
def sent(submit: Callable[[str], Submitted]) -> Sent:
    seen = submit("multi-node")
    job = seen.operated[STEP]
    [service] = [one for one in seen.services if one["metadata"]["name"] == job["metadata"]["name"]]
    return Sent(job, service)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    brought = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}  # in the place of GPUs
    with Cluster(tmp_path / "cluster", processes=True, environment=brought) as made:
        yield made


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("request")
    make_base(folder / "base")
    return folder


@pytest.fixture(scope="module")
def one_process(place: Path) -> Path:
    """The bundle that one process gives."""
    from llara_core.training.adapt import adapt
    from llara_core.training.stage_request import open_table

    request = asked(place, place / "base", **LONG)
    settings = AdaptSettings.parse(request.settings, "adapt")
    adapt(place / "base", open_table(request.data["rows"]), settings, place / "one", SEED)
    return place / "one"


def lay_down(cluster: Cluster, place: Path, name: str) -> NodeRequest:
    """What the step before the pods does."""
    volume = cluster.folder / VOLUME
    two = LaunchSettings(nodes=2, patience_minutes=10)
    request = asked(place, place / "base", **LONG)
    return NodeRequest.write(volume / "requests" / name, request, two, {"start": "s", "rows": "r"})


def send(cluster: Cluster, sent: Sent) -> tuple[str, dict[str, str]]:
    """Send Job and Service, and wait for the end: its kind, and what each pod said, by its index."""
    api = config.new_client_from_config(config_file=str(cluster.kubeconfig), context=CONTEXT)
    name = sent.job["metadata"]["name"]
    client.BatchV1Api(api).create_namespaced_job(NAMESPACE, sent.job)
    client.CoreV1Api(api).create_namespaced_service(NAMESPACE, sent.service)
    until = time.monotonic() + PATIENCE
    while not (found := cluster.objects.get("jobs", NAMESPACE, name).get("status", {}).get("conditions")):
        assert time.monotonic() < until, f"{name} did not end"
        time.sleep(0.1)
    pods = cluster.objects.list("pods", NAMESPACE, f"job-name={name}")
    said = {
        one["metadata"]["annotations"][faults.INDEX]: cluster.log(one["metadata"]["name"]) for one in pods
    }
    assert len(pods) == len(said) == 2
    return found[0]["type"], said


def difference(one: Path, other: Path) -> float:
    """The largest one between two weights."""
    left, right = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert left.keys() == right.keys()
    return max(float((left[name] - right[name]).abs().max()) for name in left)


def test_pods_of_an_indexed_job_give_what_one_process_gives(
    cluster: Cluster, sent: Sent, place: Path, one_process: Path
) -> None:
    request = lay_down(cluster, place, sent.request)
    end, said = send(cluster, sent)
    assert end == "Complete", said
    assert "adapt: pod 0 of 2" in said["0"]
    assert "adapt: pod 1 of 2" in said["1"]
    assert "process 0 of 2 on cpu" in said["0"]
    assert difference(place / "base", one_process) > 1e-4
    assert difference(request.result(), one_process) < 1e-6
    end, said = send(cluster, sent.named("repeated"))  # of a pipeline that is run again
    assert end == "Complete"
    assert all("nothing to do" in text for text in said.values())


def test_a_pod_that_lost_its_node_ends_the_job_and_the_next_goes_on(
    cluster: Cluster, sent: Sent, place: Path, one_process: Path
) -> None:
    request = lay_down(cluster, place, sent.request)
    cluster.faults.plant(faults.node_lost(STEP, index=1, found=CHECKPOINT))
    end, said = send(cluster, sent)
    assert end == "Failed", said
    assert not request.is_done()
    end, said = send(cluster, sent.named("next"))
    assert end == "Complete", said
    assert "resuming at step" in said["0"]
    assert difference(request.result(), one_process) < 1e-6
    assert [one.name for one in read_bundle(request.result()).history][-1] == "adapt"
