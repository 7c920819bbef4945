"""The cluster of the tests does what Kubernetes documents, as far as we lean on it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kubernetes")
pytest.importorskip("kubernetes_validate")

from kubernetes import client, config
from kubernetes.client.rest import ApiException

from tests.kube import faults
from tests.kube.cluster import CONTEXT, PERSON, Cluster
from tests.kube.jobs import Jobs, verdict

PATIENCE = 120  # seconds; a Job takes a tenth of one on a quiet machine
# The client cannot read a rule without `onPodConditions` back (kubernetes-client/python #2056).
RULES: dict[str, Any] = {
    "rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]},
            "onPodConditions": [],
        },
        {"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [0]}, "onPodConditions": []},
    ]
}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster") as made:
        yield made


@pytest.fixture
def api(cluster: Cluster) -> Any:
    return config.new_client_from_config(config_file=str(cluster.kubeconfig), context=CONTEXT)


def job(name: str = "work", step: str = "adapt", **spec: Any) -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "i", "command": ["true"]}]}
    template = {"metadata": {"labels": {"step_name": step}}, "spec": pod}
    return {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "labels": {"step_name": step}},
        "spec": {"backoffLimit": 0, "podFailurePolicy": RULES, "template": template, **spec},
    }  # fmt: skip


def end(cluster: Cluster, name: str = "work") -> tuple[str, str | None]:
    """Type and reason of a Job's last condition."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if conditions := (cluster.objects.get("jobs", "n", name).get("status") or {}).get("conditions"):
            return conditions[0]["type"], conditions[0].get("reason")
        time.sleep(0.02)
    raise AssertionError(f"job {name} did not end within {PATIENCE} s")


def test_what_is_created_is_kept_recorded_and_selected(cluster: Cluster, api: Any) -> None:
    core = client.CoreV1Api(api)
    core.create_namespaced_secret(
        "n", {"metadata": {"name": "s", "labels": {"a": "1"}}, "data": {"k": "dg=="}}
    )
    assert core.read_namespaced_secret("s", "n").data == {"k": "dg=="}
    core.patch_namespaced_secret("s", "n", {"data": {"k": None, "j": "dg=="}})
    assert core.read_namespaced_secret("s", "n").data == {"j": "dg=="}
    assert [one.metadata.name for one in core.list_namespaced_secret("n", label_selector="a=1").items] == [
        "s"
    ]
    assert core.list_namespaced_secret("n", label_selector="a=2").items == []
    with pytest.raises(ApiException) as refused:
        core.create_namespaced_secret("n", {"metadata": {"name": "s"}})
    assert refused.value.status == 409
    verbs = {("", "secrets", verb) for verb in ("create", "get", "patch", "list")}
    assert cluster.recorder.permissions(PERSON) == verbs


def test_a_manifest_that_breaks_the_schema_is_refused(api: Any) -> None:
    wrong = job()
    wrong["spec"]["template"]["spec"]["nodeSelectors"] = {"a": "b"}
    with pytest.raises(ApiException) as refused:
        client.BatchV1Api(api).create_namespaced_job("n", wrong)
    assert refused.value.status == 422
    assert "nodeSelectors" in refused.value.body
    wrong = job()
    wrong["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "one"}}
    with pytest.raises(ApiException, match="no quantity"):
        client.BatchV1Api(api).create_namespaced_job("n", wrong)


def test_nobody_comes_in_without_a_token_and_grants_hold(cluster: Cluster, api: Any) -> None:
    cluster.grants[PERSON] = {("", "pods", "list")}
    core = client.CoreV1Api(api)
    core.list_namespaced_pod("n")
    with pytest.raises(ApiException) as refused:
        core.read_namespaced_pod_log("p", "n")
    assert (refused.value.status, "pods/log" in refused.value.body) == (403, True)
    review = client.AuthorizationV1Api(api)
    for verb, allowed in (("list", True), ("create", False)):
        spec = {"resourceAttributes": {"namespace": "n", "verb": verb, "resource": "pods"}}
        said = review.create_self_subject_access_review({"spec": spec})
        assert said.status.allowed is allowed
    api.configuration.api_key["authorization"] = "Bearer guessed"
    with pytest.raises(ApiException) as refused:
        core.list_namespaced_pod("n")
    assert refused.value.status == 401


def test_a_job_ends_and_takes_its_pods_with_it(cluster: Cluster, api: Any) -> None:
    batch = client.BatchV1Api(api)
    batch.create_namespaced_job("n", job())
    assert end(cluster) == ("Complete", None)
    assert len(cluster.objects.list("pods", "n", "job-name=work")) == 1
    batch.delete_namespaced_job("work", "n", propagation_policy="Foreground")
    assert cluster.objects.list("pods", "n") == []


@pytest.mark.parametrize(
    ("fault", "limit", "pods", "expected"),
    [
        (faults.evicted("adapt", times=2), 0, 3, ("Complete", None)),
        (faults.node_lost("adapt"), 0, 2, ("Complete", None)),
        (faults.out_of_memory("adapt"), 0, 1, ("Failed", "BackoffLimitExceeded")),
        (faults.out_of_memory("adapt", times=1), 1, 2, ("Complete", None)),
        (faults.failing("adapt", code=42), 5, 1, ("Failed", "PodFailurePolicy")),
        (faults.evicted("mine"), 0, 1, ("Complete", None)),
    ],
)
def test_pods_are_retried_by_the_policy(
    cluster: Cluster,
    api: Any,
    fault: faults.PodFault,
    limit: int,
    pods: int,
    expected: tuple[str, str | None],
) -> None:
    cluster.faults.plant(fault)
    client.BatchV1Api(api).create_namespaced_job("n", job(backoffLimit=limit))
    assert end(cluster) == expected
    assert len(cluster.objects.list("pods", "n")) == pods


def test_a_pod_that_cannot_start_waits_until_the_deadline(cluster: Cluster, api: Any) -> None:
    cluster.faults.plant(faults.image_not_pulled("adapt"))
    client.BatchV1Api(api).create_namespaced_job("n", job(activeDeadlineSeconds=1))
    assert end(cluster) == ("Failed", "DeadlineExceeded")
    [pod] = cluster.objects.list("pods", "n", fields="status.phase=Pending")
    assert pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ImagePullBackOff"


def test_a_deadline_that_comes_before_the_pod_does_not_go_without_it(
    cluster: Cluster, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_index = Jobs._of_index

    def late(self: Jobs, job: Any, index: int | None, stop: threading.Event) -> Any:
        assert stop.wait(PATIENCE)
        return of_index(self, job, index, stop)

    monkeypatch.setattr(Jobs, "_of_index", late)
    cluster.faults.plant(faults.image_not_pulled("adapt"))
    client.BatchV1Api(api).create_namespaced_job("n", job(activeDeadlineSeconds=1))
    assert end(cluster) == ("Failed", "DeadlineExceeded")
    [pod] = cluster.objects.list("pods", "n", fields="status.phase=Pending")
    assert pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ImagePullBackOff"


def test_an_indexed_job_has_a_pod_for_each_index(cluster: Cluster, api: Any) -> None:
    spec = {"completionMode": "Indexed", "completions": 2, "parallelism": 2}
    client.BatchV1Api(api).create_namespaced_job("n", job(**spec))
    assert end(cluster) == ("Complete", None)
    environments = [one["spec"]["containers"][0]["env"] for one in cluster.objects.list("pods", "n")]
    assert sorted(one[0]["value"] for one in environments) == ["0", "1"]


def test_the_api_can_refuse_fail_and_dawdle(cluster: Cluster, api: Any) -> None:
    batch = client.BatchV1Api(api)
    cluster.faults.plant(
        faults.quota_refused("adapt"),
        faults.ApiFault(500, verb="list", resource="jobs", times=1),
        faults.ApiFault(seconds=0.5, verb="get", resource="jobs"),
    )
    with pytest.raises(ApiException) as refused:
        batch.create_namespaced_job("n", job())
    assert (refused.value.status, "exceeded quota" in refused.value.body) == (403, True)
    batch.create_namespaced_job("n", job(step="mine"))
    with pytest.raises(ApiException) as broken:
        batch.list_namespaced_job("n")
    assert broken.value.status == 500
    assert len(batch.list_namespaced_job("n").items) == 1
    began = time.monotonic()
    batch.read_namespaced_job("work", "n")
    assert time.monotonic() - began >= 0.5


def test_pods_run_as_processes_with_what_their_manifests_give(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster", processes=True) as cluster:
        cluster.objects.create("secrets", "n", {"metadata": {"name": "s"}, "data": {"k": "c2VjcmV0"}})
        told = job()
        pod = told["spec"]["template"]["spec"]
        shell = 'echo "$KEY $HOSTNAME"; echo kept > "$PLACE/file"; test -z "$MLFLOW_TRACKING_URI"'
        pod["containers"][0] |= {
            "command": ["sh", "-c", shell],
            "env": [
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "PLACE", "value": "/checkpoints"},
            ],
            "volumeMounts": [{"name": "kept", "mountPath": "/checkpoints"}],
        }
        pod["volumes"] = [{"name": "kept", "persistentVolumeClaim": {"claimName": "checkpoints"}}]
        cluster.jobs.start(cluster.objects.create("jobs", "n", told))
        assert end(cluster) == ("Complete", None)
        [made] = cluster.objects.list("pods", "n")
        name = made["metadata"]["name"]
        assert cluster.log(name) == f"secret {name}\n"
        assert (tmp_path / "cluster/volumes/checkpoints/file").read_text() == "kept\n"
        cluster.faults.plant(faults.evicted("adapt", said="begun"))
        told["metadata"]["name"] = "second"
        pod["containers"][0]["command"] = [
            "sh",
            "-c",
            'test -e "$PLACE/again" || { touch "$PLACE/again"; echo begun; sleep 60; }',
        ]
        cluster.jobs.start(cluster.objects.create("jobs", "n", told))
        assert end(cluster, "second") == (
            "Complete",
            None,
        )  # the first pod was evicted, the second found its file
        assert len(cluster.objects.list("pods", "n", "job-name=second")) == 2


def test_what_failed_counts_unless_a_rule_says_otherwise() -> None:
    pod = {"metadata": {"namespace": "n", "name": "p"}}
    status = faults.evicted("s").status
    assert verdict(RULES, pod, status)[0] == "Ignore"
    # The container's rule stands first: a pod that was evicted counts as a failure of its own.
    assert verdict({"rules": RULES["rules"][::-1]}, pod, status)[0] == "Count"
    assert verdict(None, pod, status)[0] == "Count"


def test_pythons_in_a_pod_believe_that_it_is_one(tmp_path: Path) -> None:
    program = (
        "import os, socket; from kubernetes import client, config; config.load_incluster_config(); "
        "pods = client.CoreV1Api().list_namespaced_pod('n').items; "
        "print(socket.gethostname() == pods[0].metadata.name, 'LLARA_LOCAL' in os.environ)"
    )
    place = {"KUBERNETES_SERVICE_HOST": "127.0.0.1"}
    with Cluster(tmp_path / "cluster", processes=True, environment=place) as cluster:
        told = job()
        pod = told["spec"]["template"]["spec"]
        pod["serviceAccountName"] = "orchestrator"
        # A program that another one starts is in the same pod.
        pod["containers"][0]["command"] = ["sh", "-c", f'{sys.executable} -c "$PROGRAM"']
        pod["containers"][0]["env"] = [{"name": "PROGRAM", "value": program}]
        cluster.jobs.start(cluster.objects.create("jobs", "n", told))
        assert end(cluster) == ("Complete", None)
        [made] = cluster.objects.list("pods", "n")
        assert cluster.log(made["metadata"]["name"]) == "True False\n"
        assert ("", "pods", "list") in cluster.recorder.permissions("orchestrator")
