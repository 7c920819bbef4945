"""deploy/kubernetes as the API server would see it: valid for three versions, and safe."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.kubernetes_quantities import complaint
from tests.deploy.render import Manifest, named, pod_spec, render

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy" / "kubernetes"
FOLDERS = sorted(path.parent for path in DEPLOY.glob("**/kustomization.yaml"))
RESTRICTED = "pod-security.kubernetes.io/enforce"


def ids(path: Path) -> str:
    return str(path.relative_to(DEPLOY))


@pytest.mark.parametrize("folder", FOLDERS, ids=ids)
def test_every_manifest_is_strictly_valid_for_the_three_newest_versions(folder: Path) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    versions = validate.utils.all_versions()[-3:]
    assert len(versions) == 3
    manifests, known = render(folder), [] if folder == DEPLOY / "base" else render(DEPLOY / "base")
    manifests = [one for one in manifests if one not in known]
    assert manifests
    for version in versions:
        for one in manifests:
            try:
                validate.validate(one, version, strict=True)
            except validate.ValidationError as error:
                pytest.fail(
                    f"{version} {one['kind']} {one['metadata']['name']}: {list(error.path)} {error.message}"
                )


def test_the_validation_can_fail() -> None:
    validate = pytest.importorskip("kubernetes_validate")
    claim = named(render(DEPLOY / "base"), "PersistentVolumeClaim", "llara-live")
    claim["spec"]["accesModes"] = claim["spec"].pop("accessModes")
    with pytest.raises(validate.ValidationError):
        validate.validate(claim, validate.latest_version(), strict=True)


@pytest.mark.parametrize("folder", FOLDERS, ids=ids)
def test_kubectl_renders_the_same(folder: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    command = ["kubectl", "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        pytest.skip(f"kubectl cannot render here: {done.stderr.strip()[:200]}")

    def ordered(manifests: list[Any]) -> list[Any]:
        return sorted(manifests, key=lambda one: (one["kind"], one["metadata"]["name"]))

    assert ordered(list(yaml.safe_load_all(done.stdout))) == ordered(render(folder))


PODS = [("Deployment", "llara-serve"), ("CronJob", "llara-tidy")]


def pod(manifests: list[Manifest], kind: str = "Deployment", name: str = "llara-serve") -> Manifest:
    spec = pod_spec(named(manifests, kind, name))
    assert spec is not None
    return spec


def test_the_list_of_pods_is_whole() -> None:
    started = [one for one in render(DEPLOY / "base") if "template" in str(one.get("spec"))]
    assert [(one["kind"], one["metadata"]["name"]) for one in started] == PODS


@pytest.mark.parametrize(("kind", "name"), PODS)
def test_pods_comply_with_their_namespace(kind: str, name: str) -> None:
    """Pod Security's level restricted, which the namespace enforces."""
    manifests = render(DEPLOY / "base")
    assert named(manifests, "Namespace", "llara")["metadata"]["labels"][RESTRICTED] == "restricted"
    spec = pod(manifests, kind, name)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True
        assert "privileged" not in context
    assert {key for volume in spec["volumes"] for key in volume} <= {
        "name",
        "persistentVolumeClaim",
        "emptyDir",
    }


def test_the_service_fits_together() -> None:
    manifests = render(DEPLOY / "base")
    spec, labels = pod(manifests), {"app.kubernetes.io/name": "llara-serve"}
    [container] = spec["containers"]
    deployment = named(manifests, "Deployment", "llara-serve")
    assert "replicas" not in deployment["spec"]  # the autoscaler's
    assert (
        deployment["spec"]["selector"]["matchLabels"]
        == deployment["spec"]["template"]["metadata"]["labels"]
        == labels
    )
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert f"--port={ports['http']}" in container["args"]
    for probe, path in (
        ("startupProbe", "/healthz"),
        ("readinessProbe", "/readyz"),
        ("livenessProbe", "/healthz"),
    ):
        assert container[probe]["httpGet"] == {"path": path, "port": "http"}
    service = named(manifests, "Service", "llara-serve")["spec"]
    assert service["selector"] == labels
    assert service["ports"][0]["targetPort"] == "http"
    assert named(manifests, "PodDisruptionBudget", "llara-serve")["spec"]["selector"]["matchLabels"] == labels
    scaler = named(manifests, "HorizontalPodAutoscaler", "llara-serve")["spec"]
    assert scaler["scaleTargetRef"]["name"] == "llara-serve"
    assert 2 <= scaler["minReplicas"] < scaler["maxReplicas"]  # with one, the budget would let none go


@pytest.mark.parametrize(("kind", "name"), PODS)
def test_what_pods_name_is_there(kind: str, name: str) -> None:
    manifests = render(DEPLOY / "base")
    spec = pod(manifests, kind, name)
    [container] = spec["containers"]
    mounted = {one["name"] for one in container["volumeMounts"]}
    assert mounted == {one["name"] for one in spec["volumes"]}
    claims = {one["metadata"]["name"] for one in manifests if one["kind"] == "PersistentVolumeClaim"}
    named_claims = {
        one["persistentVolumeClaim"]["claimName"] for one in spec["volumes"] if "emptyDir" not in one
    }
    assert named_claims and named_claims <= claims
    accounts = {one["metadata"]["name"] for one in manifests if one["kind"] == "ServiceAccount"}
    assert spec["serviceAccountName"] in accounts
    assert spec["priorityClassName"] in {
        one["metadata"]["name"] for one in manifests if one["kind"] == "PriorityClass"
    }


def test_the_volume_is_tidied_by_a_command_that_there_is(tmp_path: Path) -> None:
    """Its words, with a folder here for the mount, are what ``llara`` understands."""
    from llara_core.cli.app import run

    spec = pod(render(DEPLOY / "base"), "CronJob", "llara-tidy")
    [container] = spec["containers"]
    places = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    here = {places[name]: tmp_path / name for name in ("checkpoints", "models")}
    words = [f"--volume={one}" for one in here]
    assert container["args"] == ["gc", *words, "--apply"]
    old = here["/checkpoints"] / "adapt" / "run-0123456789ab"
    fetched = here["/models"] / "llara" / "registry" / "0123" / "retriever-0123" / "3-0123456789abcdef"
    kept = here["/models"] / "hub" / "models--Qwen--Qwen3-0.6B"
    for made in (old, fetched, kept):
        made.mkdir(parents=True)
        os.utime(made, (0, 0))
    assert run(["gc", *(f"--volume={one}" for one in here.values()), "--apply"]) == 0
    assert (old.exists(), fetched.exists(), kept.exists()) == (False, False, True)


def test_nothing_comes_in_unless_a_policy_says_so() -> None:
    policies = [one["spec"] for one in render(DEPLOY / "base") if one["kind"] == "NetworkPolicy"]
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in policies
    for policy in policies:
        for rule in policy.get("ingress", []):
            assert rule.get("from"), "an ingress rule without `from` lets everybody in"


@pytest.mark.parametrize("folder", FOLDERS, ids=ids)
def test_amounts_are_quantities_and_images_are_pinned(folder: Path) -> None:
    """The schemas let any text pass."""
    for one in render(folder):
        spec = one.get("spec") or {}
        amounts = dict(spec.get("hard") or {}) | dict((spec.get("resources") or {}).get("requests") or {})
        for container in (pod_spec(one) or {}).get("containers", []):
            amounts |= container["resources"]["requests"] | container["resources"]["limits"]
            assert ":" in container["image"]
            assert not container["image"].endswith(":latest")
        for name, amount in amounts.items():
            kind = name.removeprefix("requests.")
            assert complaint("count" if name.startswith("count/") else kind, amount) is None, (name, amount)


def test_profiles_ask_for_what_the_base_makes() -> None:
    from llara_core.settings import load_yaml
    from pipelines.kubernetes_wanted import wanted_by

    manifests = render(DEPLOY / "base")
    names = {(one["kind"], one["metadata"]["name"]) for one in manifests}
    stack = (REPOSITORY / ".zenml" / "stacks" / "llara-kubernetes.yaml").read_text(encoding="utf-8")
    for path in (REPOSITORY / "configs" / "kubernetes").glob("*.yaml"):
        wanted = wanted_by([load_yaml(path)], "llara", [])
        assert wanted.claims
        assert {("PersistentVolumeClaim", name) for name in wanted.claims} <= names
        assert {("PriorityClass", name) for name in wanted.priorities} <= names
        assert bool(wanted.gpus) == (path.stem != "retraining")  # a tick only looks, and starts another run
    for account in ("llara-orchestrator", "llara-step"):
        assert ("ServiceAccount", account) in names
        assert account in stack
    build = {(one["kind"], one["metadata"]["name"]) for one in render(DEPLOY / "build")}
    assert {("Namespace", "llara-build"), ("ServiceAccount", "llara-build")} <= build


def test_the_example_overlay_changes_what_it_says() -> None:
    manifests = render(DEPLOY / "overlays" / "example")
    assert {
        one["spec"].get("storageClassName") for one in manifests if one["kind"] == "PersistentVolumeClaim"
    } == {"shared"}
    assert named(manifests, "ResourceQuota", "llara-gpus")["spec"]["hard"]["requests.nvidia.com/gpu"] == "8"
    subjects = named(manifests, "RoleBinding", "llara-launcher")["subjects"]
    assert [one["kind"] for one in subjects] == ["ServiceAccount", "Group"]
