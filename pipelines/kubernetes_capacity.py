"""Volumes, priorities, GPUs and quotas: has the cluster what runs will ask for?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llara_core.doctor import Check
from pipelines.kubernetes_quantities import parse
from pipelines.kubernetes_wanted import GpuPod, Wanted

APPLY = "kubectl apply -k deploy/kubernetes/base (or your overlay of it)"
TIMEOUT = (10, 15)  # seconds to connect (through a VPN, and with TLS), and to wait for an answer
_DEFAULT = "storageclass.kubernetes.io/is-default-class"


def volumes(client: Any, wanted: Wanted) -> Iterator[Check]:
    """Every claim that pods mount: it exists, and its storage class too."""
    from kubernetes.client import CoreV1Api, StorageV1Api

    classes = StorageV1Api(client).list_storage_class(_request_timeout=TIMEOUT).items
    listed = CoreV1Api(client).list_namespaced_persistent_volume_claim
    claims = {one.metadata.name: one for one in listed(wanted.namespace, _request_timeout=TIMEOUT).items}
    for name in wanted.claims:
        if name in claims:
            yield _volume(name, claims[name], classes, wanted.namespace)
        else:
            yield Check("volume", False, f"claim {name} does not exist", APPLY)


def _volume(name: str, claim: Any, classes: list[Any], namespace: str) -> Check:
    known = {one.metadata.name: one for one in classes}
    defaults = [one for one in known if (known[one].metadata.annotations or {}).get(_DEFAULT) == "true"]
    chosen = claim.spec.storage_class_name or next(iter(defaults), None)
    phase = (claim.status.phase if claim.status else None) or "Pending"
    if phase == "Bound":
        return Check("volume", True, f"claim {name} is bound, {', '.join(claim.spec.access_modes or [])}")
    if chosen not in known:
        what = f"storage class {chosen!r}" if chosen else "default storage class"
        advice = (
            "in your overlay, name one whose volumes many nodes can mount (ReadWriteMany); there are: "
            f"{', '.join(known) or 'none'}"
        )
        return Check("volume", False, f"claim {name}: the cluster has no {what}", advice)
    words = f"claim {name} is {phase}, by storage class {chosen}"
    # Such a class makes a volume when the first pod asks: Pending is as it should be until then.
    waits = known[chosen].volume_binding_mode == "WaitForFirstConsumer"
    advice = f"kubectl -n {namespace} describe pvc {name} tells why"
    return Check("volume", phase == "Pending" and waits, words, advice)


def priorities(client: Any, wanted: Wanted) -> Iterator[Check]:
    """Priority classes, without which the API server refuses pods."""
    from kubernetes.client import SchedulingV1Api

    listed = SchedulingV1Api(client).list_priority_class(_request_timeout=TIMEOUT).items
    names = {one.metadata.name for one in listed}
    missing = [name for name in wanted.priorities if name not in names]
    if missing:
        yield Check("priority", False, f"no priority class {', '.join(missing)}", APPLY)
    elif wanted.priorities:
        yield Check("priority", True, ", ".join(wanted.priorities))


def gpus(client: Any, wanted: Wanted) -> Iterator[Check]:
    """For each kind of pod with GPUs, a node that can take one."""
    from kubernetes.client import CoreV1Api

    nodes = CoreV1Api(client).list_node(_request_timeout=TIMEOUT).items
    kinds = {pod.alike: pod for pod in wanted.gpus}
    for alike, pod in kinds.items():
        steps = [one.step for one in wanted.gpus if one.alike == alike]
        yield _gpu(pod, steps, nodes)


def _gpu(pod: GpuPod, steps: list[str], nodes: list[Any]) -> Check:
    labels = ", ".join(f"{key}={value}" for key, value in pod.selectors) or "any label"
    asked = f"{pod.amount} x {pod.resource} on nodes with {labels}"
    matching = [node for node in nodes if set(pod.selectors) <= set((node.metadata.labels or {}).items())]
    amounts = [_has(node, pod.resource) for node in matching]
    enough = sum(amount >= parse(pod.amount) for amount in amounts)
    if enough:
        return Check("gpu", True, f"{asked}: {enough} of {len(nodes)} nodes can take one")
    seen = (
        f"{len(matching)} nodes match, the most any has is {max(amounts)}" if matching else "no node matches"
    )
    if not matching and any(_has(node, pod.resource) for node in nodes):
        advice = f"label the pool's nodes: kubectl label nodes NODE {labels.replace(',', '')}"
    else:
        advice = "install NVIDIA's device plugin or GPU operator, and add nodes (docs/kubernetes.md, step 1)"
    zero = "a pool that grows from zero shows no node until a pod waits"
    return Check("gpu", False, f"{asked} ({', '.join(steps)}): {seen}", f"{advice}; {zero}")


def quotas(client: Any, wanted: Wanted) -> Iterator[Check]:
    """GPU quotas of the namespace that are smaller than one pod."""
    from kubernetes.client import CoreV1Api

    listed = CoreV1Api(client).list_namespaced_resource_quota(wanted.namespace, _request_timeout=TIMEOUT)
    for quota in listed.items:
        for name, hard in (quota.spec.hard or {}).items():
            resource = name.removeprefix("requests.")
            asked = [parse(one.amount) for one in wanted.gpus if one.resource == resource]
            if asked:
                ok, words = parse(str(hard)) >= max(asked), f"{quota.metadata.name}: {hard} x {resource}"
                advice = f"a step asks for {max(asked)}; raise the quota in your overlay of deploy/kubernetes"
                yield Check("quota", ok, words, "" if ok else advice)


def _has(node: Any, resource: str) -> Any:
    """How many of a device a node can give."""
    return parse(str(((node.status.allocatable if node.status else None) or {}).get(resource, "0")))
