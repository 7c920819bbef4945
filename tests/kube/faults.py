"""Faults to plant into a cluster: of the API, and of the pods."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.kube.objects import ApiError, Asked, Object

INDEX = "batch.kubernetes.io/job-completion-index"  # annotation of a pod of an Indexed Job


@dataclass
class ApiFault:
    """The API refuses, fails or is slow.

    Args:
        status: of the answer; None: only slow.
        reason: of the answer's `Status`.
        message: of it.
        verb: which requests it meets; None: all.
        resource: as above.
        step: label ``step_name`` of the body; None: any body.
        after: that many requests of the kind go through first.
        times: how many requests it meets; None: all.
        seconds: of waiting before anything is done.
        lost: of waiting after it was done, before the answer.
    """

    status: int | None = None
    reason: str = "InternalError"
    message: str = "planted"
    verb: str | None = None
    resource: str | None = None
    step: str | None = None
    after: int = 0
    times: int | None = None
    seconds: float = 0.0
    lost: float = 0.0
    met: int = field(default=0, init=False)

    def meets(self, asked: Asked, body: Any) -> bool:
        """Whether this request is one of those; counts it."""
        if self.verb not in (None, asked.verb) or self.resource not in (None, asked.resource):
            return False
        labels = (body.get("metadata") or {}).get("labels") or {} if isinstance(body, dict) else {}
        if self.step is not None and labels.get("step_name") != self.step:
            return False
        self.met += 1
        return self.after < self.met and (self.times is None or self.met <= self.after + self.times)


@dataclass
class PodFault:
    """A pod of a step comes to an end of its own kind.

    Args:
        step: label ``step_name``; None: the orchestrator's pod.
        status: of the pod, merged over a usual one; ``{"phase": "Pending", …}`` never starts.
        times: how many pods it meets; the ones after them do well.
        after: seconds that the pod's process runs before it is killed.
        said: text of the pod's log that must have appeared before; None: at once.
        found: pattern of a file in the cluster's folder that must be there before; None: at once.
        index: of an Indexed Job, the pod of this index alone; None: whichever comes.
    """

    step: str | None
    status: Object
    times: int | None = None
    after: float = 0.0
    said: str | None = None
    found: str | None = None
    index: int | None = None
    met: int = field(default=0, init=False)

    def meets(self, pod: Object) -> bool:
        """Whether this new pod is one of those; counts it."""
        index = (pod["metadata"].get("annotations") or {}).get(INDEX)
        if self.step != pod["metadata"]["labels"].get("step_name"):
            return False
        if self.index not in (None, None if index is None else int(index)):
            return False
        if self.times is not None and self.met >= self.times:
            return False
        self.met += 1
        return True


def quota_refused(step: str) -> ApiFault:
    """The ResourceQuota has no GPU left."""
    message = (
        f'jobs.batch "{step}" is forbidden: exceeded quota: gpu, requested: requests.nvidia.com/gpu=1, '
        "used: requests.nvidia.com/gpu=8, limited: requests.nvidia.com/gpu=8"
    )
    return ApiFault(403, "Forbidden", message, verb="create", resource="jobs", step=step)


def image_not_pulled(step: str | None) -> PodFault:
    """The registry does not have the image, or the pod may not have it."""
    waiting = {
        "reason": "ImagePullBackOff",
        "message": 'Back-off pulling image "registry.example.com/llara:1"',
    }
    return PodFault(step, {"phase": "Pending", "containerStatuses": [_container({"waiting": waiting})]})


def unschedulable(step: str | None) -> PodFault:
    """No node fits."""
    condition = {
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
    }  # fmt: skip
    return PodFault(step, {"phase": "Pending", "conditions": [condition]})


def out_of_memory(step: str | None, times: int | None = None, **more: Any) -> PodFault:
    """The kernel kills the container at its memory limit."""
    state = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    return PodFault(step, {"phase": "Failed", "containerStatuses": [_container(state)]}, times, **more)


def evicted(step: str | None, times: int | None = 1, **more: Any) -> PodFault:
    """The kubelet needs the node's memory for others."""
    words = "The node was low on resource: memory."
    status = {
        "phase": "Failed", "reason": "Evicted", "message": words,
        "conditions": [_disruption("TerminationByKubelet", words)],
        "containerStatuses": [_container({"terminated": {"exitCode": 137, "reason": "Error"}})],
    }  # fmt: skip
    return PodFault(step, status, times, **more)


def node_lost(step: str | None, times: int | None = 1, **more: Any) -> PodFault:
    """The node is gone (a spot machine, say): its pods are collected, and nobody knows how they ended."""
    status = {
        "phase": "Failed",
        "conditions": [_disruption("DeletionByPodGC", "PodGC: node no longer exists")],
    }
    return PodFault(step, status, times, **more)


def failing(step: str | None, code: int = 1, times: int | None = None) -> PodFault:
    """The program ends with an error."""
    state = {"terminated": {"exitCode": code, "reason": "Error"}}
    return PodFault(step, {"phase": "Failed", "containerStatuses": [_container(state)]}, times)


class Faults:
    """What is planted at present; may be changed while the cluster works."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._api: list[ApiFault] = []
        self._pods: list[PodFault] = []

    def plant(self, *faults: ApiFault | PodFault) -> None:
        """Plant these, and no others."""
        with self._lock:
            self._api = [one for one in faults if isinstance(one, ApiFault)]
            self._pods = [one for one in faults if isinstance(one, PodFault)]

    def of_request(self, asked: Asked, body: Any) -> float:
        """Wait or raise as planted; returns the seconds that the answer has to wait."""
        with self._lock:
            met = [one for one in self._api if one.meets(asked, body)]
        for one in met:
            time.sleep(one.seconds)
            if one.status is not None:
                raise ApiError(one.status, one.reason, one.message)
        return sum(one.lost for one in met)

    def of_pod(self, pod: Object) -> PodFault | None:
        """The fault that a new pod has to suffer; counts it."""
        with self._lock:
            return next((one for one in self._pods if one.meets(pod)), None)


def container_status(state: Object, image: str = "") -> Object:
    """Status of the container ``main`` in a state."""
    return _container(state) | {"image": image}


def _container(state: Object) -> Object:
    return {
        "name": "main",
        "image": "",
        "imageID": "",
        "ready": "running" in state,
        "restartCount": 0,
        "state": state,
    }


def _disruption(reason: str, message: str) -> Object:
    return {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}


def disrupted(conditions: Sequence[Object] | None) -> bool:
    """Whether the conditions of a pod say that it was not its own fault."""
    return any(one["type"] == "DisruptionTarget" and one["status"] == "True" for one in conditions or ())
