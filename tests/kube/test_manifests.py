"""What the profiles of ``configs/kubernetes`` become: the manifests that the real orchestrator sends.

Half a minute a profile, most of it ZenML's own.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from tests.kube import manifests
from tests.kube.conftest import Submitted
from tests.kube.submit import IMAGE, PLANTED

pytestmark = pytest.mark.timeout(900)
STAGES = {"adapt", "finetune", "finetune_without_adaptation"}
ENCODING_STEPS = {"mine", "evaluate", "gauge"}
PROFILES = {"gpu-1": 1, "gpu-8": 8, "multi-node": 8}  # name: GPUs of a training pod


@pytest.fixture(params=PROFILES)
def profile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(profile: str, submit: Callable[[str], Submitted]) -> Submitted:
    return submit(profile)


def every(run: Submitted) -> dict[str, dict[str, Any]]:
    """All manifests with pods, by what they are."""
    operated = {f"pods of {name}": one for name, one in run.operated.items()}
    return {**run.jobs, **operated, "the orchestrator": run.jobs[""], "the schedule": run.cron_job}


def training(run: Submitted) -> dict[str, dict[str, Any]]:
    """The Jobs whose pods train, by the stage: the steps' own, or those of the step operator."""
    return {name: run.operated.get(f"{name}_on_nodes", run.jobs[name]) for name in sorted(STAGES)}


def with_gpus(run: Submitted) -> dict[str, dict[str, Any]]:
    """The Jobs whose pods need GPUs, and no others."""
    return {**training(run), **{name: run.jobs[name] for name in ENCODING_STEPS}}


def container(manifest: dict[str, Any]) -> dict[str, Any]:
    [one] = manifests.containers(manifest)
    return one


def mounts(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Path of each mount -> its volume."""
    volumes = {one["name"]: one for one in manifests.pod_spec(manifest).get("volumes") or ()}
    return {one["mountPath"]: volumes[one["name"]] for one in container(manifest).get("volumeMounts") or ()}


def test_every_step_is_a_job_and_every_manifest_is_valid(run: Submitted, profile: str) -> None:
    from pipelines.on_nodes import node_step_ids
    from pipelines.training import STEPS

    # `resolve` is there only for a base from the registry.
    expected = set(STEPS) - {"resolve"}
    if profile == "multi-node":
        expected |= {step for stage in STAGES for step in node_step_ids(stage)}
        assert set(run.operated) == {f"{stage}_on_nodes" for stage in STAGES}
    assert set(run.steps) == expected
    assert "" in run.jobs
    for name, one in every(run).items():
        kind = "CronJob" if name == "the schedule" else "Job"
        told = {**one, "apiVersion": "batch/v1", "kind": kind}
        assert manifests.complaints(told) == [], name
        assert container(one)["image"] == IMAGE
    for kind, objects in (("Secret", run.secrets), ("Service", run.services)):
        for one in objects:
            assert manifests.complaints({**one, "apiVersion": "v1", "kind": kind}) == []


def test_gpus_go_to_the_steps_that_use_them_and_to_nobody_else(run: Submitted, profile: str) -> None:
    theirs = [id(one) for one in with_gpus(run).values()]
    for name, one in every(run).items():
        assert (manifests.gpus(one) > 0) == (id(one) in theirs), name
    assert {manifests.gpus(one) for one in training(run).values()} == {PROFILES[profile]}
    for one in with_gpus(run).values():
        resources = container(one)["resources"]
        assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"]


def test_pods_with_gpus_go_to_nodes_that_have_them(run: Submitted) -> None:
    theirs = [id(one) for one in with_gpus(run).values()]
    for name, one in every(run).items():
        spec = manifests.pod_spec(one)
        tolerated = any(each.get("key") == "nvidia.com/gpu" for each in spec.get("tolerations") or ())
        assert tolerated == (id(one) in theirs), name
        assert bool(spec.get("nodeSelector")) or id(one) not in theirs, name


def test_pods_with_gpus_have_shared_memory_checkpoints_and_a_model_cache(run: Submitted) -> None:
    for name, one in with_gpus(run).items():
        places = mounts(one)
        assert places["/dev/shm"]["emptyDir"]["medium"] == "Memory", name
        values = {each["name"]: each.get("value") for each in container(one)["env"]}
        assert "persistentVolumeClaim" in places[values["HF_HOME"]]
        if name in STAGES:
            assert "persistentVolumeClaim" in places[values["LLARA_CHECKPOINTS"]]
        if name in ("mine", "evaluate", "gauge"):
            volume, _, below = values["LLARA_VECTORS"].rpartition("/")
            assert below and "persistentVolumeClaim" in places[volume]  # not its root: `gc` looks below it


def test_several_pods_of_a_step_find_each_other(submit: Callable[[str], Submitted], profile: str) -> None:
    """One Indexed Job and a service of its name a stage, in whose environment the pods' number stands."""
    run = submit(profile)
    assert bool(run.operated) == (profile == "multi-node")
    services = {one["metadata"]["name"]: one for one in run.services}
    for name, one in run.operated.items():
        spec, job = one["spec"], one["metadata"]["name"]
        assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2), name
        assert manifests.pod_spec(one)["subdomain"] == job
        assert services[job]["spec"]["clusterIP"] == "None"
        assert services[job]["spec"]["selector"] == {"job-name": job}
        values = {each["name"]: each.get("value") for each in container(one)["env"]}
        assert values["ZENML_KUBERNETES_POD_COUNT"] == "2"


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
    # What trains on one node is tried again by its Job; on several, by the step that started the pods.
    started = [run.jobs.get(f"{name}_on_nodes", run.jobs[name]) for name in STAGES]
    assert min(one["spec"]["backoffLimit"] for one in started) >= 5


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
                "LLARA_VECTORS",
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
    for name, one in {**run.steps, **run.operated}.items():
        spec = manifests.pod_spec(one)
        if name.endswith("_on_nodes") and one is run.steps[name]:  # it starts pods
            assert (spec["serviceAccountName"], manifests.gpus(one)) == (orchestrator, 0), name
            continue
        assert spec["serviceAccountName"] != orchestrator, name
        assert spec["automountServiceAccountToken"] is False, name


def test_no_secret_stands_in_clear(run: Submitted) -> None:
    """Not in any request; ZenML's token only in Secrets, which every pod that needs it refers to."""
    # ZenML's step operator has no other way to pass a run's token on. It is good for that run, until its end.
    operated = list(run.operated.values())
    said = [text for body in run.bodies if body not in operated for text in manifests.texts(body)]
    assert said
    for name, secret in PLANTED.items():
        assert not [text for text in said if secret in text], name
        if name != "token":
            assert not [text for text in manifests.texts(operated) if secret in text], name
    kept = [base64.b64decode(one).decode() for secret in run.secrets for one in secret["data"].values()]
    assert set(kept) == {PLANTED["token"]}
    names = {one["metadata"]["name"] for one in run.secrets}
    for name, one in {**run.jobs, "the schedule": run.cron_job}.items():
        [token] = [each for each in container(one)["env"] if each["name"] == "ZENML_STORE_API_TOKEN"]
        assert token["valueFrom"]["secretKeyRef"]["name"] in names, name


def test_one_scheduled_run_at_a_time(run: Submitted) -> None:
    spec = run.cron_job["spec"]
    assert (spec["schedule"], spec["concurrencyPolicy"]) == ("30 3 * * *", "Forbid")
    assert 0 < spec["successfulJobsHistoryLimit"] <= 10
    assert 0 < spec["failedJobsHistoryLimit"] <= 10
