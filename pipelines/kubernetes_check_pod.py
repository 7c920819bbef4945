"""Is a pod's description one that will run? Sizes, GPUs, volumes, secrets, and what it may write to.

Each rule is a mistake that ZenML and the API server tell of late or never, when a GPU is long waited for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines import kubernetes_check_keys as keys
from pipelines.kubernetes_quantities import complaint, is_gpu, parse

# What a pod setting becomes in a manifest.
_KINDS = {
    "affinity": "V1Affinity", "tolerations": "list[V1Toleration]", "resources": "V1ResourceRequirements",
    "volumes": "list[V1Volume]", "volume_mounts": "list[V1VolumeMount]", "env": "list[V1EnvVar]",
    "env_from": "list[V1EnvFromSource]", "container_security_context": "V1SecurityContext",
    "node_selectors": "dict(str, str)", "labels": "dict(str, str)", "annotations": "dict(str, str)",
    "image_pull_secrets": "list[str]", "scheduler_name": "str", "host_ipc": "bool",
}  # fmt: skip
_OF_SECRETS = re.compile(
    r"(TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIALS?|(API|ACCESS|PRIVATE)_?KEY)$", re.IGNORECASE
)
_WRITTEN = ("/tmp", "$HOME")  # noqa: S108 - where ZenML, MLflow and ours write without being told
_SHM = "/dev/shm"  # noqa: S108 - a path in the pod


def spelling(pod: Mapping[str, Any], where: str) -> Iterator[str]:
    """Complaints about single values: unknown keys at any depth, kinds of values, amounts.

    Args:
        pod: pod settings as written.
        where: the place, for the message.
    """
    from zenml.integrations.kubernetes.pod_settings import KubernetesPodSettings

    yield from keys.in_settings(pod, KubernetesPodSettings.model_fields, where)
    for name, kind in _KINDS.items():
        if pod.get(name) is not None:
            # Amounts are texts too, but `complaint` knows more about them.
            found = list(keys.in_model(pod[name], kind, f"{where}.{name}"))
            yield from (one for one in found if name != "resources" or "expected text" not in one)
    yield from _amounts(pod, where)
    extra = "additional_pod_spec_args"
    yield from _extra_arguments(_mapping(pod, extra), f"{where}.{extra}")
    for number, one in enumerate(_entries(pod, "volumes")):
        size = _mapping(one, "emptyDir").get("sizeLimit")
        if size is not None and (said := complaint("storage", size)):
            yield f"{where}.volumes[{number}].emptyDir.sizeLimit: {said}"


def whole(pod: Mapping[str, Any], where: str, may_have_gpus: bool = True) -> Iterator[str]:
    """Complaints about what does not fit together.

    Args:
        pod: pod settings as the pod will get them, the pipeline's and the step's together.
        where: the place, for the message.
        may_have_gpus: whether this is a place to ask for GPUs; elsewhere the caller says so, and no more.
    """
    yield from _limits(pod, where)
    yield from _volumes(pod, where)
    yield from _writable(pod, where)
    for number, one in enumerate(_entries(pod, "env")):
        if _OF_SECRETS.search(str(one.get("name"))) and one.get("value"):
            yield (
                f"{where}.env[{number}]: {one['name']} would stand in clear in every manifest; put it into a "
                "ZenML secret and name that under `secrets:`, or use valueFrom.secretKeyRef"
            )
    if may_have_gpus and gpus(pod):
        yield from _gpus(pod, where)


def gpus(pod: Mapping[str, Any]) -> dict[str, Any]:
    """The GPUs that a pod asks for, in limits or requests: name of the resource to amount."""
    resources = pod.get("resources") or {}
    named = {**_mapping(resources, "requests"), **_mapping(resources, "limits")}
    return {name: amount for name, amount in named.items() if is_gpu(name)}


def _amounts(pod: Mapping[str, Any], where: str) -> Iterator[str]:
    for kind in ("requests", "limits"):
        for name, amount in _mapping(pod.get("resources") or {}, kind).items():
            if said := complaint(name, amount):
                yield f"{where}.resources.{kind}.{name}: {said}"


def _extra_arguments(extra: Mapping[str, Any], where: str) -> Iterator[str]:
    """ZenML drops keys that it does not know here, and sets those that it knows as they are."""
    from kubernetes.client import V1PodSpec

    for key, value in extra.items():
        if key not in V1PodSpec.openapi_types:
            yield f"{where}: {keys.unknown(key, V1PodSpec.openapi_types)}"
        elif key in ("containers", "init_containers", "restart_policy"):
            yield f"{where}.{key}: this would change what ZenML starts; the pod's container is ZenML's own"
        else:
            yield from keys.in_model(value, V1PodSpec.openapi_types[key], f"{where}.{key}")


def _limits(pod: Mapping[str, Any], where: str) -> Iterator[str]:
    resources = pod.get("resources") or {}
    requests, limits = _mapping(resources, "requests"), _mapping(resources, "limits")
    if "memory" not in requests:
        yield f"{where}.resources.requests: 'memory' is missing; ZenML would ask for 400Mi"
    for name in requests.keys() & limits.keys():
        if complaint(name, requests[name]) or complaint(name, limits[name]):
            continue
        asked, most = parse(requests[name]), parse(limits[name])
        if is_gpu(name) and asked != most:
            yield (
                f"{where}.resources: {name}: requests {requests[name]} and limits {limits[name]}; "
                "a device cannot be overcommitted, so both must be equal"
            )
        elif asked > most:
            yield f"{where}.resources: {name}: requests {requests[name]} are above limits {limits[name]}"


def _gpus(pod: Mapping[str, Any], where: str) -> Iterator[str]:
    limits = _mapping(pod.get("resources") or {}, "limits")
    for name, amount in gpus(pod).items():
        if name not in limits:
            yield (
                f"{where}.resources: {name} stands in requests alone, which Kubernetes refuses; write it "
                f"into limits: {{{name}: {amount!r}}}"
            )
        if not any(_tolerates(one, name) for one in _entries(pod, "tolerations")):
            yield (
                f"{where}.tolerations: no toleration of {name}; nodes with GPUs keep away pods without, so "
                f"it would stay Pending; add {{key: {name}, operator: Exists, effect: NoSchedule}}"
            )
    node_affinity = _mapping(_mapping(pod, "affinity"), "nodeAffinity")
    extra = _mapping(pod, "additional_pod_spec_args")
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not (pod.get("node_selectors") or required or extra.get("node_selector") or extra.get("affinity")):
        yield (
            f"{where}: asks for a GPU of any kind; name the pool with node_selectors, or require a label "
            "with affinity.nodeAffinity"
        )
    mounted = {one.get("mountPath") for one in _entries(pod, "volume_mounts")}
    if _SHM not in mounted:
        yield (
            f"{where}.volumes: nothing is mounted at {_SHM}, which then has 64 MiB: NCCL and data loaders "
            "need more; add {name: shm, emptyDir: {medium: Memory, sizeLimit: 8Gi}} and its mount"
        )


def _tolerates(toleration: Mapping[str, Any], name: str) -> bool:
    """Whether a toleration is meant for nodes with this device; those of all taints count too."""
    family = name.partition("/")[0] + "/"
    return str(toleration.get("key") or family).startswith(family)


def _volumes(pod: Mapping[str, Any], where: str) -> Iterator[str]:
    volumes = {str(one.get("name")): one for one in _entries(pod, "volumes")}
    extra = _mapping(pod, "additional_pod_spec_args").get("volumes") or []
    known = volumes.keys() | {str(one.get("name")) for one in extra if isinstance(one, Mapping)}
    mounts = _entries(pod, "volume_mounts")
    mounted = [str(one.get("name")) for one in mounts]
    for name in mounted:
        if name not in known:
            yield f"{where}.volume_mounts: {keys.unknown(name, known, 'unknown volume')}"
    for name, one in volumes.items():
        if name not in mounted:
            yield (
                f"{where}.volumes: {name!r} is mounted nowhere; add {{name: {name}, mountPath: …}} to "
                "volume_mounts, or leave it out"
            )
        empty = one.get("emptyDir")
        if isinstance(empty, Mapping) and empty.get("medium") == "Memory" and not empty.get("sizeLimit"):
            yield f"{where}.volumes: {name!r} lies in memory without a sizeLimit, so it may fill the node's"
    paths = [str(one.get("mountPath")) for one in mounts]
    for path in sorted({path for path in paths if paths.count(path) > 1}):
        yield f"{where}.volume_mounts: two volumes are mounted at {path}"


def _writable(pod: Mapping[str, Any], where: str) -> Iterator[str]:
    """With a read-only root, what is written to must be a volume."""
    if not _mapping(pod, "container_security_context").get("readOnlyRootFilesystem"):
        return
    home = next((one.get("value") for one in _entries(pod, "env") if one.get("name") == "HOME"), None)
    mounted = {str(one.get("mountPath")).rstrip("/") for one in _entries(pod, "volume_mounts")}
    for place in _WRITTEN:
        path = str(home) if place == "$HOME" else place
        if path not in mounted:
            yield (
                f"{where}: the root is read-only and nothing is mounted at {place}"
                f"{'' if place != '$HOME' else f' ({home})' if home else ', which env does not set'}; "
                "mount an emptyDir there"
            )


def _entries(pod: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """A list of mappings; what is none has been told of by `spelling`."""
    found = pod.get(name) or []
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _mapping(values: Any, name: str) -> Mapping[str, Any]:
    found = values.get(name) if isinstance(values, Mapping) else None
    return found if isinstance(found, Mapping) else {}
