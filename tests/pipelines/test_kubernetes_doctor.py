"""`llara doctor --stack` against a cluster of ours: what is missing is named with its fix; nothing hangs."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kubernetes")

from llara_core.doctor import Check, lines, verdict
from llara_core.errors import ConfigError
from llara_core.settings import load_yaml
from pipelines import kubernetes_cluster, kubernetes_doctor, kubernetes_store
from pipelines.kubernetes_wanted import Wanted, wanted_by
from tests.deploy.render import render
from tests.deploy.roles import BASE
from tests.kube.cluster import PERSON, Cluster

REPOSITORY = Path(__file__).resolve().parents[2]
PROFILE = REPOSITORY / "configs" / "kubernetes" / "gpu-1.yaml"
ACCOUNTS = ("llara-orchestrator", "llara-step")
_PLURALS = {
    "Namespace": "namespaces", "ServiceAccount": "serviceaccounts", "ResourceQuota": "resourcequotas",
    "PersistentVolumeClaim": "persistentvolumeclaims", "PriorityClass": "priorityclasses",
}  # fmt: skip
Without = Callable[[dict[str, Any]], bool]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path) as made:
        yield made


def apply(cluster: Cluster, without: Without = lambda one: False) -> None:
    """What `kubectl apply -k` makes of the base, less what a test leaves out; every claim is bound."""
    for one in render(BASE):
        if one["kind"] in _PLURALS and not without(one):
            if one["kind"] == "PersistentVolumeClaim":
                one["spec"].setdefault("storageClassName", "standard")
                one["status"] = {"phase": "Bound"}
            cluster.objects.create(_PLURALS[one["kind"]], one["metadata"].get("namespace"), one)


def client(cluster: Cluster) -> Any:
    from kubernetes import config

    return kubernetes_cluster.patient(config.new_client_from_config(str(cluster.kubeconfig)))


def looked(cluster: Cluster, wanted: Wanted | None = None) -> list[Check]:
    asked = wanted or wanted_by([load_yaml(PROFILE)], "llara", ACCOUNTS)
    return kubernetes_cluster.examine(client(cluster), asked)


def label_the_nodes(cluster: Cluster) -> None:
    for node in cluster.objects.list("nodes"):
        if "nvidia.com/gpu" in node["status"]["allocatable"]:
            patch = {"metadata": {"labels": {"llara/pool": "gpu"}}}
            cluster.objects.patch("nodes", None, node["metadata"]["name"], patch)


def faults(checks: list[Check]) -> list[Check]:
    return [check for check in checks if not check.ok]


def test_what_the_base_makes_is_enough(cluster: Cluster) -> None:
    apply(cluster)
    label_the_nodes(cluster)
    checks = looked(cluster)
    assert faults(checks) == []
    assert {check.name for check in checks} == {
        "api server", "namespace", "service account", "permissions", "volume", "priority", "gpu", "quota",
    }  # fmt: skip
    assert verdict(checks) == ""


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("Namespace", "llara", "'llara' does not exist"),
        ("ServiceAccount", "llara-step", "llara-step does not exist"),
        ("PersistentVolumeClaim", "llara-checkpoints", "claim llara-checkpoints does not exist"),
        ("PriorityClass", "llara-training", "no priority class llara-training"),
    ],
)
def test_what_is_missing_is_named_with_its_fix(cluster: Cluster, kind: str, name: str, said: str) -> None:
    apply(cluster, without=lambda one: (one["kind"], one["metadata"]["name"]) == (kind, name))
    label_the_nodes(cluster)
    [fault] = faults(looked(cluster))
    assert fault.found == said
    assert "kubectl apply -k" in fault.advice


def test_rights_that_are_missing_are_named(cluster: Cluster) -> None:
    apply(cluster)
    label_the_nodes(cluster)
    everything = {
        (group, resource, verb)
        for group, resource, verbs in kubernetes_cluster.LAUNCHING
        for verb in verbs
    }  # fmt: skip
    looks = {("authorization.k8s.io", "selfsubjectaccessreviews", "create")}
    cluster.grants[PERSON] = everything - {("batch", "jobs", "create"), ("", "pods/log", "get")} | looks
    found = {check.name: check for check in faults(looked(cluster))}
    assert found["permissions"].found == "in llara you may not create jobs, get pods/log"
    assert "llara-launcher" in found["permissions"].advice
    # What one may not look at is told as such; it is no proof that it is missing.
    assert found["gpus"].found.startswith("403 ")
    assert "right to look" in found["gpus"].advice


def test_volumes_without_a_class_are_told(cluster: Cluster) -> None:
    apply(cluster)
    claim = {"spec": {"storageClassName": "shared"}, "status": {"phase": "Pending"}}
    cluster.objects.patch("persistentvolumeclaims", "llara", "llara-models", claim)
    found = [check for check in faults(looked(cluster)) if check.name == "volume"]
    assert [check.found for check in found] == [
        "claim llara-models: the cluster has no storage class 'shared'"
    ]
    assert "ReadWriteMany" in found[0].advice
    assert "standard" in found[0].advice


def test_nodes_without_the_label_or_the_gpus_are_told(cluster: Cluster) -> None:
    apply(cluster)
    for node in cluster.objects.list("nodes"):
        cluster.objects.patch(
            "nodes", None, node["metadata"]["name"], {"metadata": {"labels": {"llara/pool": None}}}
        )
    [fault] = faults(looked(cluster))
    assert "1 x nvidia.com/gpu on nodes with llara/pool=gpu" in fault.found
    assert "no node matches" in fault.found
    assert "kubectl label nodes NODE llara/pool=gpu" in fault.advice
    label_the_nodes(cluster)
    values = load_yaml(PROFILE)
    for kind in ("requests", "limits"):
        pod = values["steps"]["adapt"]["settings"]["orchestrator.kubernetes"]["pod_settings"]
        pod["resources"][kind]["nvidia.com/gpu"] = "64"
    found = faults(looked(cluster, wanted_by([values], "llara", ACCOUNTS)))
    assert {check.name for check in found} == {"gpu", "quota"}
    assert "1 nodes match, the most any has is 8" in found[0].found
    assert "device plugin" in found[0].advice


def test_a_server_that_is_away_costs_seconds_and_is_named(tmp_path: Path) -> None:
    with Cluster(tmp_path) as made:
        gone = client(made)
    begun = time.monotonic()
    [check] = kubernetes_cluster.examine(gone, Wanted("llara"))
    assert not check.ok
    assert check.name == "api server"
    assert time.monotonic() - begun < 60


def test_secrets_that_are_missing_are_named() -> None:
    class Held:
        def get_secret(self, name: str) -> Any:
            if name != "llara-s3":
                raise KeyError(name)
            return type("Secret", (), {"secret_values": {"key": "a"}})

    secrets = kubernetes_doctor._Secrets(Held())
    store = {"key": "{{llara-s3.key}}", "secret": "{{llara-s3.secret}}", "path": "s3://x"}
    checks = list(secrets.look({"artifact_store": store}, {"llara-environment"}))
    assert [(check.ok, check.found) for check in checks] == [
        (False, "llara-environment does not exist, or you may not read it"),
        (False, "llara-s3 has no secret"),
    ]
    assert all("make stack-kubernetes" in check.advice for check in checks)
    assert secrets.filled(store) == {"key": "a", "path": "s3://x"}


def test_a_profile_with_a_mistake_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("settings: {orchestrator.kubernetes: {max_paralelism: 1}}")
    values: list[Any] = []
    check = kubernetes_doctor._profile(path, values)
    assert not check.ok
    assert "did you mean 'max_parallelism'" in check.found
    assert values == []


def test_problems_are_shown_with_what_to_do() -> None:
    shown = list(lines([Check("a", True, "fine"), Check("bcd", False, "broken", "mend it")]))
    assert shown == ["ok       a    fine", "PROBLEM  bcd  broken", "              → mend it"]


def test_a_zenml_server_that_is_away_ends_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("ZENML_STORE_URL", f"http://127.0.0.1:{port}")
    checks = list(kubernetes_doctor.examine("llara-kubernetes", []))
    assert [(check.name, check.ok) for check in checks] == [("zenml server", False)]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("CredentialsNotValid", "it does not know us"),
        ("AuthorizationException", "`zenml login http://zenml`"),
        ("IllegalOperationError", "it forbids this"),
    ],
)
def test_what_zenml_says_at_the_door_is_told(monkeypatch: pytest.MonkeyPatch, error: str, said: str) -> None:
    from zenml import exceptions

    monkeypatch.setenv("ZENML_STORE_URL", "http://zenml")
    with pytest.raises(ConfigError, match=said), kubernetes_store.readable_errors():
        raise getattr(exceptions, error)("no")
    with pytest.raises(RuntimeError, match="a fault of ours"), kubernetes_store.readable_errors():
        raise RuntimeError("a fault of ours")
