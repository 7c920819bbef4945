"""What the profiles of ``configs/kubernetes`` become: the manifests that the real orchestrator sends.

One profile in the default tests (half a minute, most of it ZenML's own), the others in the slow ones.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from pipelines.training import STEPS
from tests.kube import manifests
from tests.kube.conftest import Submitted
from tests.kube.submit import IMAGE, PLANTED

GPU_STEPS = {"adapt", "mine", "finetune", "finetune_without_adaptation", "evaluate", "gauge"}
TRAINING_STEPS = {"adapt", "finetune", "finetune_without_adaptation"}
OTHER_STEPS = set(STEPS) - GPU_STEPS - {"resolve"}  # `resolve` is there only for a base from the registry
PROFILES = {"gpu-1": 1, "gpu-8": 8}  # name: GPUs of a training step
ALL = [
    "gpu-1",
    *(
        pytest.param(one, marks=[pytest.mark.slow, pytest.mark.timeout(900)])
        for one in PROFILES
        if one != "gpu-1"
    ),
]


@pytest.fixture(params=ALL)
def profile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(profile: str, submit: Callable[[str], Submitted]) -> Submitted:
    return submit(profile)


def every(run: Submitted) -> dict[str, dict[str, Any]]:
    """All manifests with pods, by what they are."""
    return {**run.jobs, "the orchestrator": run.jobs[""], "the schedule": run.cron_job}


def container(manifest: dict[str, Any]) -> dict[str, Any]:
    [one] = manifests.containers(manifest)
    return one


def mounts(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Path of each mount -> its volume."""
    volumes = {one["name"]: one for one in manifests.pod_spec(manifest).get("volumes") or ()}
    return {one["mountPath"]: volumes[one["name"]] for one in container(manifest).get("volumeMounts") or ()}


def test_every_step_is_a_job_and_every_manifest_is_valid(run: Submitted) -> None:
    assert set(run.steps) == GPU_STEPS | OTHER_STEPS
    assert "" in run.jobs
    for name, one in every(run).items():
        kind = "CronJob" if name == "the schedule" else "Job"
        told = {**one, "apiVersion": "batch/v1", "kind": kind}
        assert manifests.complaints(told) == [], name
        assert container(one)["image"] == IMAGE
    for secret in run.secrets:
        assert manifests.complaints({**secret, "apiVersion": "v1", "kind": "Secret"}) == []


def test_gpus_go_to_the_steps_that_use_them_and_to_nobody_else(run: Submitted, profile: str) -> None:
    counts = {name: manifests.gpus(one) for name, one in every(run).items()}
    assert {name for name, count in counts.items() if count} == GPU_STEPS
    assert {counts[name] for name in TRAINING_STEPS} == {PROFILES[profile]}
    for name in GPU_STEPS:
        resources = container(run.jobs[name])["resources"]
        assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"]


def test_pods_with_gpus_go_to_nodes_that_have_them(run: Submitted) -> None:
    for name in GPU_STEPS:
        spec = manifests.pod_spec(run.jobs[name])
        assert spec["nodeSelector"], name
        assert any(one.get("key") == "nvidia.com/gpu" for one in spec["tolerations"]), name
    for name in {*OTHER_STEPS, ""}:
        spec = manifests.pod_spec(run.jobs[name])
        assert not any(one.get("key") == "nvidia.com/gpu" for one in spec.get("tolerations") or ()), name


def test_pods_with_gpus_have_shared_memory_checkpoints_and_a_model_cache(run: Submitted) -> None:
    for name in GPU_STEPS:
        places = mounts(run.jobs[name])
        assert places["/dev/shm"]["emptyDir"]["medium"] == "Memory", name
        values = {one["name"]: one.get("value") for one in container(run.jobs[name])["env"]}
        assert "persistentVolumeClaim" in places[values["HF_HOME"]]
        if name in TRAINING_STEPS:
            assert "persistentVolumeClaim" in places[values["LLARA_CHECKPOINTS"]]


def test_every_pod_says_what_memory_it_takes_and_has_an_end(run: Submitted) -> None:
    for name, one in every(run).items():
        job = one["spec"]["jobTemplate"]["spec"] if name == "the schedule" else one["spec"]
        resources = container(one)["resources"]
        assert resources["requests"]["memory"] != "400Mi", f"{name}: that is ZenML's own guess"
        assert "memory" in resources["limits"], name
        assert job["activeDeadlineSeconds"] > 0
        assert job["ttlSecondsAfterFinished"] > 0
        assert manifests.pod_spec(one)["restartPolicy"] == "Never"


def test_evictions_do_not_use_up_tries(run: Submitted) -> None:
    for name, one in run.jobs.items():
        first = one["spec"]["podFailurePolicy"]["rules"][0]
        assert (first["action"], first["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget"), name
        assert one["spec"]["backoffLimit"] >= 2, name
    assert min(run.jobs[name]["spec"]["backoffLimit"] for name in TRAINING_STEPS) >= 5


def test_pods_run_locked_down(run: Submitted) -> None:
    for name, one in every(run).items():
        spec, own = manifests.pod_spec(one), container(one)["securityContext"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not own.get("privileged"), name
        assert own["readOnlyRootFilesystem"] is True
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert not any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
        assert not any("hostPath" in volume for volume in spec.get("volumes") or ()), name


def test_what_a_locked_down_pod_writes_to_is_mounted(run: Submitted) -> None:
    """With a read-only root, whatever is written must lie below a mount."""
    for name, one in every(run).items():
        places = mounts(one)
        assert "emptyDir" in places["/tmp"], name
        for variable in container(one)["env"]:
            value = variable.get("value") or ""
            if variable["name"] in (
                "HOME",
                "HF_HOME",
                "ZENML_CONFIG_PATH",
                "LLARA_LOCAL",
                "LLARA_CHECKPOINTS",
            ):
                assert any(value == place or value.startswith(f"{place}/") for place in places), (
                    name,
                    variable,
                )


def test_the_orchestrators_pod_is_small(run: Submitted) -> None:
    orchestrator = container(run.jobs[""])["resources"]
    assert orchestrator == container(run.cron_job)["resources"]
    assert orchestrator["requests"]["cpu"] in ("500m", "1")
    assert orchestrator["limits"]["memory"] in ("1Gi", "2Gi", "4Gi")


def test_steps_go_when_their_run_goes(run: Submitted) -> None:
    for name, one in run.steps.items():
        [owner] = one["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["controller"]) == ("Job", False), name


def test_steps_have_nothing_to_say_to_the_cluster(run: Submitted) -> None:
    orchestrator = manifests.pod_spec(run.jobs[""])["serviceAccountName"]
    for name, one in run.steps.items():
        spec = manifests.pod_spec(one)
        assert spec["serviceAccountName"] != orchestrator, name
        assert spec["automountServiceAccountToken"] is False, name


def test_no_secret_stands_in_clear(run: Submitted) -> None:
    """Not in any request; ZenML's token only in Secrets, which every pod that needs it refers to."""
    said = [text for body in run.bodies for text in manifests.texts(body)]
    assert said
    for name, secret in PLANTED.items():
        assert not [text for text in said if secret in text], name
    kept = [base64.b64decode(one).decode() for secret in run.secrets for one in secret["data"].values()]
    assert set(kept) == {PLANTED["token"]}
    names = {one["metadata"]["name"] for one in run.secrets}
    for name, one in every(run).items():
        [token] = [each for each in container(one)["env"] if each["name"] == "ZENML_STORE_API_TOKEN"]
        assert token["valueFrom"]["secretKeyRef"]["name"] in names, name


def test_one_scheduled_run_at_a_time(run: Submitted) -> None:
    spec = run.cron_job["spec"]
    assert (spec["schedule"], spec["concurrencyPolicy"]) == ("30 3 * * *", "Forbid")
    assert 0 < spec["successfulJobsHistoryLimit"] <= 10
    assert 0 < spec["failedJobsHistoryLimit"] <= 10
