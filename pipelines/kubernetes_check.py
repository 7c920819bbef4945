"""Check what a run configuration says to Kubernetes, before anything is submitted.

ZenML keeps unknown keys of pod settings without a word, passes on what stands deeper unread, ignores
``gpu_count``, and lays a step's settings over the pipeline's with their defaults. A mistake there shows as a
GPU that is never used, or as a pod that waits for ever.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from llara_core.errors import ConfigError, MissingDependencyError
from pipelines import kubernetes_check_keys as keys
from pipelines import kubernetes_check_pod as pods
from pipelines import kubernetes_levels as levels

_VARIABLE = re.compile(r"'([A-Za-z0-9_]+)'")  # in ZenML's message
_POD_KEYS = ("pod_settings", "orchestrator_pod_settings")
_IN_STACK = ("incluster", "kubernetes_context", "kubernetes_namespace", "local", "pass_zenml_token_as_secret")
_LISTS = ("tolerations", "volumes", "volume_mounts", "env", "env_from", "image_pull_secrets")


def check(values: Mapping[str, Any], path: Path, command_steps: Collection[str] = ()) -> None:
    """Refuse a run configuration whose Kubernetes settings hold mistakes.

    Args:
        values: a run configuration as read from YAML; its ``${VARIABLES}`` are filled in as ZenML will do.
        path: its file, for the message.
        command_steps: names of the steps that are container commands and may run on several pods.

    Raises:
        ConfigError: names every mistake, its place and what to write instead; or a variable is not set.
        MissingDependencyError: it speaks of Kubernetes, and the client is not installed.
    """
    found = problems(_filled(values, path), command_steps)
    if len(found) == 1:
        raise ConfigError(f"{path}: {found[0]}")
    if found:
        lines = "\n".join(f"  - {one}" for one in found)
        raise ConfigError(f"{path}: {len(found)} mistakes in what is said to Kubernetes:\n{lines}")


def problems(values: Mapping[str, Any], command_steps: Collection[str] = ()) -> list[str]:
    """Every mistake of a run configuration, in words; none if it does not speak of Kubernetes.

    Args:
        values: a run configuration as read from YAML.
        command_steps: names of the steps that are container commands.
    """
    places = {"settings": levels.mapping(values.get("settings"))}
    steps = {str(name): levels.mapping(step) for name, step in levels.mapping(values.get("steps")).items()}
    places |= {f"steps.{name}.settings": levels.mapping(step.get("settings")) for name, step in steps.items()}
    if not levels.spoken_of(values):
        return [one for where, settings in places.items() for one in levels.misspelt(settings, where)]
    _need_client()
    found: list[str] = []
    for where, settings in places.items():
        found += [*levels.misspelt(settings, where), *_level(settings, where)]
    found += _retries(values, "retry")
    run = levels.settings_of(places["settings"], "orchestrator")
    found += _pods(run, run, f"settings.{levels.key_of(places['settings'], 'orchestrator')}", on_step=False)
    nodes = levels.mapping(levels.mapping(values.get("parameters")).get("launch")).get("nodes")
    for name, step in steps.items():
        found += _step(name, step, places["settings"], command_steps, nodes)
    return list(dict.fromkeys(found))


def _filled(values: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    if not levels.spoken_of(values):
        return values
    from zenml.utils.env_utils import substitute_env_variable_placeholders

    told_by = ("settings", "steps", "environment")
    try:
        told = {key: substitute_env_variable_placeholders(values[key]) for key in told_by if values.get(key)}
    except KeyError as error:
        names = _VARIABLE.findall(str(error))
        raise ConfigError(
            f"{path}: variable {', '.join(names) or error} is not set; `make stack-kubernetes` writes the "
            "variables of a cluster into .local/kubernetes.env, to be sourced"
        ) from None
    return {**values, **told}


def _level(settings: Mapping[str, Any], where: str) -> Iterator[str]:
    """What is wrong with the settings of one level by themselves."""
    from zenml.config import DockerSettings
    from zenml.integrations.kubernetes import flavors

    classes = {
        "orchestrator": flavors.KubernetesOrchestratorSettings,
        "step_operator": flavors.KubernetesStepOperatorSettings,
    }
    if docker := levels.mapping(settings.get("docker")):
        yield from keys.in_settings(docker, DockerSettings.model_fields, f"{where}.docker")
    if settings.get("resources"):
        yield (
            f"{where}.resources: ZenML ignores it on Kubernetes, gpu_count too; write "
            'orchestrator.kubernetes.pod_settings.resources: {limits: {nvidia.com/gpu: "1"}, requests: …}'
        )
    for key, value in settings.items():
        if kind := levels.component(key):
            yield from _component(levels.mapping(value), classes[kind], f"{where}.{key}")


def _component(values: Mapping[str, Any], settings_class: Any, where: str) -> Iterator[str]:
    from pydantic import ValidationError

    fields = settings_class.model_fields
    for key in values:
        if key in _IN_STACK and key not in fields:
            yield f"{where}.{key}: belongs to the stack, .zenml/stacks/; here ZenML ignores it"
        elif key not in fields:
            yield f"{where}: {keys.unknown(key, (name for name in fields if not fields[name].deprecated))}"
        elif fields[key].deprecated:
            yield f"{where}.{key}: ZenML has given it up and ignores it; remove it"
    told = False
    for key in _POD_KEYS:
        if values.get(key):
            said = list(pods.spelling(levels.mapping(values[key]), f"{where}.{key}"))
            told = told or bool(said)
            yield from said
    if policy := values.get("pod_failure_policy"):
        yield from keys.in_model(policy, "V1PodFailurePolicy", f"{where}.pod_failure_policy")
        yield from _order(policy, f"{where}.pod_failure_policy")
    if told:  # pydantic would say the same in other words
        return
    try:
        settings_class.model_validate({key: one for key, one in values.items() if key in fields})
    except ValidationError as error:
        for one in error.errors():
            place = ".".join(str(part) for part in (where, *one["loc"]))
            yield f"{place}: got {one['input']!r}; {one['msg']}"


def _order(policy: Any, where: str) -> Iterator[str]:
    """An evicted container exits with a code as well: counted first, the eviction uses up a try."""
    counted = False
    for rule in policy.get("rules") or [] if isinstance(policy, Mapping) else []:
        codes = rule.get("onExitCodes") if isinstance(rule, Mapping) else None
        if counted and isinstance(rule, Mapping) and rule.get("onPodConditions"):
            yield (
                f"{where}.rules: the first that matches counts, so the rule of onPodConditions must stand "
                "before those of onExitCodes"
            )
            return
        counted = counted or isinstance(codes, Mapping)


def _step(
    name: str,
    step: Mapping[str, Any],
    run: Mapping[str, Any],
    command_steps: Collection[str],
    nodes: int | None,
) -> Iterator[str]:
    """What is wrong with a step's settings, seen together with the pipeline's."""
    where, settings = f"steps.{name}.settings", levels.mapping(step.get("settings"))
    yield from _retries(step, f"steps.{name}.retry")
    own, common = levels.settings_of(settings, "orchestrator"), levels.settings_of(run, "orchestrator")
    operator = levels.settings_of(settings, "step_operator")
    if own:
        place = f"{where}.{levels.key_of(settings, 'orchestrator')}"
        lost = list(_dropped(own, common, place))
        # A pod that has lost its volumes has many faults, and one reason.
        yield from lost or _pods(own, common, place, on_step=True)
    if not operator and not step.get("step_operator"):
        return
    place = f"{where}.{levels.key_of(settings, 'step_operator')}"
    if operator and not step.get("step_operator"):
        yield f"{place}: the step has no `step_operator:`, so this is never used; add `step_operator: true`"
    count = operator.get("pod_count")
    if isinstance(count, int) and count > 1 and name not in command_steps:
        yield f"{place}.pod_count: only command steps run on several pods, and {name} is none"
    if count is not None and nodes is not None and count != nodes:
        yield f"{place}.pod_count: got {count}, and parameters.launch.nodes is {nodes}; both must be the same"
    if operator.get("pod_settings"):
        yield from pods.whole(levels.mapping(operator["pod_settings"]), f"{place}.pod_settings")
    if pods.gpus(levels.mapping({**common, **own}.get("pod_settings"))):
        yield (
            f"{where}: the step runs by the step operator, and the orchestrator's pod that waits for it "
            "would hold GPUs too; leave them out of the orchestrator's pod_settings"
        )


def _pods(own: Mapping[str, Any], common: Mapping[str, Any], where: str, on_step: bool) -> Iterator[str]:
    """The pods of one level, whole."""
    pod = levels.mapping(own.get("pod_settings"))
    if on_step:
        pod = _laid_over(levels.mapping(common.get("pod_settings")), pod)
    else:
        yield from _orchestrator_pod(levels.mapping(own.get("orchestrator_pod_settings")), where)
        for name in pods.gpus(pod):
            yield (
                f"{where}.pod_settings.resources: {name}: every step would hold one, those too that read "
                "data and write reports; ask for it in the settings of the steps that use it"
            )
    if not own.get("pod_settings"):
        return
    yield from pods.whole(pod, f"{where}.pod_settings", may_have_gpus=on_step)
    deadline = own.get("active_deadline_seconds") or common.get("active_deadline_seconds")
    if pods.gpus(pod) and not deadline:
        yield f"{where}: GPUs without active_deadline_seconds: a step that hangs would hold them for ever"


def _orchestrator_pod(pod: Mapping[str, Any], where: str) -> Iterator[str]:
    if pod:
        yield from pods.whole(pod, f"{where}.orchestrator_pod_settings", may_have_gpus=False)
    for name in pods.gpus(pod):
        yield (
            f"{where}.orchestrator_pod_settings.resources: {name}: the orchestrator starts pods and waits, "
            "and would hold the GPU idle for the whole run; ask for it in the pod_settings of the steps"
        )


def _laid_over(common: Mapping[str, Any], own: Mapping[str, Any]) -> Mapping[str, Any]:
    """A step's pod settings as ZenML lays them over the pipeline's: mappings merge, lists are replaced."""
    from zenml.utils.dict_utils import recursive_update

    if not own:
        return common
    merged = recursive_update(copy.deepcopy(dict(common)), copy.deepcopy(dict(own)))
    return {**merged, **{key: own.get(key) or [] for key in _LISTS}}


def _dropped(own: Mapping[str, Any], common: Mapping[str, Any], where: str) -> Iterator[str]:
    """What a step loses of the pipeline's settings, because ZenML fills in defaults before it merges."""
    from zenml.integrations.kubernetes.flavors import KubernetesOrchestratorSettings

    fields = KubernetesOrchestratorSettings.model_fields
    for key in common:
        if key not in own and key in fields and fields[key].default not in (None, common[key]):
            yield (
                f"{where}: {key} of the pipeline would be replaced by its default {fields[key].default!r}; "
                "repeat it here (YAML: `<<: *anchor`)"
            )
    if not own.get("pod_settings"):
        return
    for key in _LISTS:
        before = levels.mapping(common.get("pod_settings")).get(key)
        if before and key not in levels.mapping(own["pod_settings"]):
            yield (
                f"{where}.pod_settings: {key} of the pipeline would be replaced by an empty list; "
                "repeat it here"
            )


def _retries(level: Mapping[str, Any], where: str) -> Iterator[str]:
    retry = levels.mapping(level.get("retry"))
    for key in ("delay", "backoff"):
        if retry.get(key):
            yield f"{where}.{key}: ignored on Kubernetes, which waits 10 s, 20 s, 40 s … up to 6 minutes"


def _need_client() -> None:
    try:
        import kubernetes  # noqa: F401
    except ModuleNotFoundError:
        raise MissingDependencyError(
            "the run configuration speaks of Kubernetes; pip install 'llara[kubernetes]'"
        ) from None
