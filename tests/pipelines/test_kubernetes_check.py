"""Mistakes planted in a run configuration that works, and what is said about each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llara_core.config import TrainingSettings
from llara_core.errors import ConfigError
from llara_core.indexing_settings import IndexingSettings
from llara_core.retraining_settings import RetrainingSettings
from llara_core.settings import load_yaml
from llara_core.sharded_settings import ShardedSettings
from pipelines import __main__ as launcher
from pipelines import kubernetes_check, kubernetes_values, run_configuration

pytest.importorskip("kubernetes")

REPOSITORY = Path(__file__).resolve().parents[2]
PROFILES = sorted((REPOSITORY / "configs" / "kubernetes").glob("*.yaml"))
_PIPELINES: dict[str, Any] = {
    "training": TrainingSettings,
    "retraining": RetrainingSettings,
    "indexing": IndexingSettings,
    "sharded": ShardedSettings,
}
KEY = "orchestrator.kubernetes"
RUN = f"settings/{KEY}/"
STEP = f"steps/adapt/settings/{KEY}/"
POD = f"{STEP}pod_settings/"
WISH = "preferredDuringSchedulingIgnoredDuringExecution"
OPERATED = {"pod_settings": {"resources": {"requests": {"memory": "1Gi"}}}}


def profile() -> dict[str, Any]:
    """One GPU, with YAML's anchors written out, so that a change in one step stays there."""
    copied: dict[str, Any] = json.loads(json.dumps(load_yaml(PROFILES[0])))
    return copied


def planted(path: str, value: Any) -> dict[str, Any]:
    """The profile with one value put in or changed, or taken out if it is ``...``."""
    values = profile()
    *places, last = path.replace("nvidia.com/", "nvidia.com|").split("/")
    at: Any = values
    for place in places:
        at = at[int(place)] if isinstance(at, list) else at.setdefault(place, {})
    key: Any = int(last) if isinstance(at, list) else last.replace("|", "/")
    if value is ...:
        del at[key]
    else:
        at[key] = value
    return values


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_is_without_a_mistake(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its keys, its steps and its parameters, as the launcher checks them."""
    for name in kubernetes_values.OPEN:
        monkeypatch.setenv(name, "x")
    kind = path.stem if path.stem in _PIPELINES else "training"
    settings = _PIPELINES[kind]
    steps, _ = launcher._pipeline(kind)
    run_configuration.check(path, steps, settings)
    assert f"{kind} -c configs/kubernetes/{path.name} -s llara-kubernetes" in path.read_text(encoding="utf-8")


MISTAKES = [
    # Keys that ZenML keeps without a word.
    ("settings/orchestrator.kuberntes", {}, "did you mean 'orchestrator.kubernetes'?"),
    ("settings/orchestrater", {}, "unknown key 'orchestrater'; did you mean 'orchestrator'?"),
    ("settings/docker/parent_imag", "x", "docker: unknown key 'parent_imag'; did you mean 'parent_image'"),
    (RUN + "max_paralelism", 2, "unknown key 'max_paralelism'; did you mean 'max_parallelism'?"),
    (RUN + "maxParallelism", 2, "unknown key 'maxParallelism'; did you mean 'max_parallelism'?"),
    (RUN + "kubernetes_namespace", "x", "belongs to the stack"),
    (RUN + "pod_startup_timeout", 60, "ZenML has given it up"),
    (RUN + "max_parallelism", -1, "max_parallelism: got -1; Input should be greater than 0"),
    (RUN + "concurrency_policy", "Never", "Invalid concurrency policy"),
    (POD + "node_selector", {"a": "b"}, "unknown key 'node_selector'; did you mean 'node_selectors'?"),
    (POD + "nodeSelectors", {"a": "b"}, "unknown key 'nodeSelectors'; did you mean 'node_selectors'?"),
    (POD + "toleration", [], "unknown key 'toleration'; did you mean 'tolerations'?"),
    # Keys further in, which ZenML passes on unread.
    (POD + "volumes/2", {"name": "shm", "empty_dir": {}}, "unknown key 'empty_dir'; did you mean 'emptyDir'"),
    (POD + "volumes/2/emptyDir/sizelimit", "1Gi", "unknown key 'sizelimit'; did you mean 'sizeLimit'?"),
    (POD + "volume_mounts/0", {"name": "tmp", "mount_path": "/tmp"}, "did you mean 'mountPath'"),
    (POD + "volume_mounts/0/mountPath", ..., "volume_mounts[0]: 'mountPath' is missing"),
    (POD + "tolerations/0/efect", "NoSchedule", "tolerations[0]: unknown key 'efect'; did you mean"),
    (POD + "affinity/node_affinity", {}, "affinity: unknown key 'node_affinity'; did you mean"),
    (
        f"{POD}affinity/nodeAffinity/{WISH}/0/preference/matchExpression",
        [],
        "preference: unknown key 'matchExpression'; did you mean 'matchExpressions'?",
    ),
    (POD + "env/0/valu", "x", "env[0]: unknown key 'valu'; did you mean 'value'?"),
    (POD + "container_security_context/read_only_root_filesystem", True, "'readOnlyRootFilesystem'?"),
    (POD + "additional_pod_spec_args/priorityClassName", "x", "did you mean 'priority_class_name'?"),
    (POD + "additional_pod_spec_args/security_context/run_as_user", 1, "did you mean 'runAsUser'?"),
    (POD + "additional_pod_spec_args/containers", [], "the pod's container is ZenML's own"),
    (RUN + "pod_failure_policy/rules/0/onPodCondition", [], "did you mean 'onPodConditions'?"),
    # Values of the wrong kind.
    (POD + "node_selectors/llara|pool", True, 'got True, expected text; write it in quotes: "true"'),
    (POD + "env/0/value", 3, 'env[0].value: got 3, expected text; write it in quotes: "3"'),
    (POD + "tolerations", {"key": "x"}, "tolerations: got {'key': 'x'}, expected a list"),
    (POD + "tolerations/0/tolerationSeconds", "60", "tolerationSeconds: got '60', expected a whole number"),
    (POD + "volumes/2", "shm", "volumes[2]: got 'shm', expected a mapping"),
    # Amounts.
    (POD + "resources/requests/memory", "64GiB", "unknown unit 'GiB'; did you mean 64Gi?"),
    (POD + "resources/requests/memory", "64", "'64' is 64 bytes; write the unit, such as 64Gi"),
    (POD + "resources/requests/memory", "-1Gi", "got '-1Gi', expected more than nothing"),
    (RUN + "pod_settings/resources/requests/memory", ..., "'memory' is missing; ZenML would ask for 400Mi"),
    (POD + "resources/requests/memory", "100Gi", "memory: requests 100Gi are above limits 64Gi"),
    (POD + "resources/requests/cpu", "one", "'one' is no quantity"),
    (POD + "resources/requests/cpu", 6, "requests.cpu: got 6, expected text; write it in quotes: '6'"),
    (POD + "resources/requests/cpu", "6Gi", "'6Gi' is an amount of memory"),
    (POD + "volumes/2/emptyDir/sizeLimit", "lots", "sizeLimit: 'lots' is no quantity"),
    # GPUs.
    ("settings/resources", {"gpu_count": 1}, "settings.resources: ZenML ignores it on Kubernetes"),
    ("steps/adapt/settings/resources", {"gpu_count": 1}, "steps.adapt.settings.resources: ZenML ignores it"),
    (POD + "resources/limits/nvidia.com/gpu", "one", "'one' is no quantity"),
    (POD + "resources/limits/nvidia.com/gpu", "0.5", "devices are given out whole"),
    (POD + "resources/limits/nvidia.com/gpu", "0", "expected more than nothing"),
    (POD + "resources/limits/nvidia.com/gpu", "2", "requests 1 and limits 2; a device cannot"),
    (POD + "resources/limits/nvidia.com/gpu", ..., "nvidia.com/gpu stands in requests alone"),
    (POD + "tolerations", [{"key": "llara/spot", "operator": "Exists"}], "no toleration of nvidia.com/gpu"),
    (POD + "node_selectors", {}, "asks for a GPU of any kind"),
    (RUN + "orchestrator_pod_settings/resources/limits/nvidia.com/gpu", "1", "starts pods and waits"),
    (RUN + "pod_settings/resources/limits/nvidia.com/gpu", "1", "every step would hold one"),
    # Volumes and what is written to.
    (POD + "volume_mounts/2/name", "shn", "unknown volume 'shn'; did you mean 'shm'?"),
    (POD + "volume_mounts/2", {"name": "tmp", "mountPath": "/x"}, "'shm' is mounted nowhere"),
    (POD + "volume_mounts/2", {"name": "shm", "mountPath": "/mnt"}, "nothing is mounted at /dev/shm"),
    (POD + "volume_mounts/2/mountPath", "/tmp", "two volumes are mounted at /tmp"),
    (POD + "volumes/2/emptyDir", {"medium": "Memory"}, "'shm' lies in memory without a sizeLimit"),
    (POD + "volume_mounts/0/mountPath", "/work", "the root is read-only and nothing is mounted at /tmp"),
    (POD + "env/0/name", "HOMER", "nothing is mounted at $HOME, which env does not set"),
    # Secrets, time, retries.
    (POD + "env/0", {"name": "HF_TOKEN", "value": "hf_x"}, "HF_TOKEN would stand in clear in every manifest"),
    ("steps/adapt/retry/delay", 10, "steps.adapt.retry.delay: ignored on Kubernetes"),
    ("retry/backoff", 2, "retry.backoff: ignored on Kubernetes"),
    # What a step loses of the pipeline's settings.
    (STEP + "max_parallelism", ..., None),  # its default is none, which ZenML leaves out when it merges
    (STEP + "backoff_limit_margin", ..., "of the pipeline would be replaced by its default 0"),
    (POD + "volumes", ..., "volumes of the pipeline would be replaced by an empty list"),
    # The step operator.
    ("steps/adapt/settings/step_operator.kubernetes", OPERATED, "the step has no `step_operator:`"),
    ("steps/segment/settings/step_operator.kubernetes", {"pod_cont": 2}, "did you mean 'pod_count'?"),
    (
        "steps/segment",
        {"step_operator": True, "settings": {"step_operator.kubernetes": {**OPERATED, "pod_count": 2}}},
        "only command steps run on several pods, and segment is none",
    ),
    ("steps/adapt/step_operator", True, "would hold GPUs too"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "said"), MISTAKES)
def test_a_planted_mistake_is_told(path: str, value: Any, said: str | None) -> None:
    found = kubernetes_check.problems(planted(path, value))
    if said is None:
        assert found == []
        return
    assert any(said in one for one in found), found
    place = path.partition("/")[0]
    assert all(one.startswith(place) for one in found), found
    # One mistake is not told in ten ways.
    assert len(found) <= 3, found


def test_gpus_need_a_deadline() -> None:
    values = planted(STEP + "active_deadline_seconds", ...)
    del values["settings"][KEY]["active_deadline_seconds"]
    [said] = kubernetes_check.problems(values)
    assert "GPUs without active_deadline_seconds" in said


def test_evictions_are_looked_for_before_exit_codes() -> None:
    values = profile()
    values["settings"][KEY]["pod_failure_policy"]["rules"].reverse()
    assert ["must stand before those of onExitCodes" in one for one in kubernetes_check.problems(values)] == [
        True
    ]


def test_command_steps_may_run_on_several_pods() -> None:
    step = {"step_operator": True, "settings": {"step_operator.kubernetes": {**OPERATED, "pod_count": 2}}}
    values = planted("steps/nodes", step)
    assert kubernetes_check.problems(values, command_steps=["nodes"]) == []
    values["parameters"]["launch"] = {"nodes": 3}
    [said] = kubernetes_check.problems(values, command_steps=["nodes"])
    assert "pod_count: got 2, and parameters.launch.nodes is 3; both must be the same" in said


def test_the_steps_of_several_nodes_are_known_by_their_names() -> None:
    from pipelines.on_nodes import node_step_ids

    assert node_step_ids("adapt")[1].endswith(run_configuration.ON_NODES)


def test_all_mistakes_are_told_at_once_with_the_file() -> None:
    values = planted(POD + "node_selector", {})
    values["parameters"] = {}
    values["settings"]["docker"] = {"skip_bild": True}
    with pytest.raises(ConfigError) as told:
        kubernetes_check.check(values | {"environment": {}}, Path("run.yaml"))
    assert str(told.value).startswith(
        "run.yaml: 2 mistakes in what is said to Kubernetes:\n  - settings.docker"
    )


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLARA_IMAGE", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow")
    with pytest.raises(ConfigError, match="variable LLARA_IMAGE is not set; `make stack-kubernetes`"):
        kubernetes_check.check(profile(), Path("run.yaml"))
    monkeypatch.setenv("LLARA_IMAGE", "registry.example.com/llara:1")
    kubernetes_check.check(profile(), Path("run.yaml"))


def test_a_configuration_of_another_stack_is_let_alone() -> None:
    assert kubernetes_check.problems({"settings": {"experiment_tracker.mlflow": {"nested": True}}}) == []


def test_zenml_merges_as_the_check_believes() -> None:
    """A list that only the pipeline has is gone in a step that says anything; mappings are merged."""
    from zenml.config.pipeline_configurations import PipelineConfiguration
    from zenml.config.step_configurations import StepConfiguration
    from zenml.integrations.kubernetes.flavors import KubernetesOrchestratorSettings

    common = {
        "backoff_limit_margin": 2, "max_parallelism": 4,
        "pod_settings": {"tolerations": [{"key": "a"}], "node_selectors": {"a": "b"}},
    }  # fmt: skip
    own = {"pod_settings": {"node_selectors": {"c": "d"}}}
    key = "orchestrator:llara-kubernetes"
    run = PipelineConfiguration(name="p", settings={key: KubernetesOrchestratorSettings(**common)})
    step = StepConfiguration(name="s", settings={key: KubernetesOrchestratorSettings(**own)})
    merged = step.apply_pipeline_configuration(run, exclude_hook_sources=True).settings[key].model_dump()
    assert merged["pod_settings"]["tolerations"] == []
    assert merged["pod_settings"]["node_selectors"] == {"a": "b", "c": "d"}
    assert merged["backoff_limit_margin"] == 0
    assert merged["max_parallelism"] == 4
    laid = kubernetes_check._laid_over(common["pod_settings"], own["pod_settings"])  # type: ignore[arg-type]
    assert {name: laid[name] for name in ("tolerations", "node_selectors")} == {
        name: merged["pod_settings"][name] for name in ("tolerations", "node_selectors")
    }
