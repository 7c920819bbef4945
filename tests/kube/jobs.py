"""The Job controller: pods, their retries by the failure policy, and the end of the Job.

Source: Kubernetes' documentation of Jobs (pod failure policy, backoff limit, deadline, indexed completion).
"""

from __future__ import annotations

import copy
import threading
import time
import uuid
from typing import Any, Protocol

from tests.kube.faults import INDEX, Faults, PodFault, container_status
from tests.kube.objects import ApiError, Object, Objects, now

# A step from 10 s towards 6 min in a real cluster; tests have no need to wait.
_BACKOFF = 0.05
_LOOK = 0.05  # seconds between two looks at whether a Job still exists


class Runner(Protocol):
    """How pods are run."""

    def run(self, pod: Object, fault: PodFault | None, stop: threading.Event) -> Object | None:
        """Run a pod to its end; returns its last status, or None for one that goes on for ever."""


class Instant:
    """Pods that succeed at once, unless a fault says otherwise."""

    def run(self, pod: Object, fault: PodFault | None, stop: threading.Event) -> Object | None:
        """The status that the fault tells, or success."""
        del stop
        if fault is not None:
            return fault.status
        state = {"terminated": {"exitCode": 0, "reason": "Completed"}}
        return {"phase": "Succeeded", "containerStatuses": [container_status(state)]}


class Jobs:
    """Runs every Job in a thread of its own, until it is finished or deleted.

    Args:
        objects: of the cluster.
        faults: that pods may have to suffer.
        runner: of the pods.
    """

    def __init__(self, objects: Objects, faults: Faults, runner: Runner) -> None:
        self._objects, self._faults, self._runner = objects, faults, runner
        self._stopped: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []

    def start(self, job: Object) -> None:
        """Begin with a Job that was created."""
        if job["spec"].get("suspend"):
            return
        stop = self._stopped[job["metadata"]["uid"]] = threading.Event()
        indices = range(job["spec"].get("completions") or 1)
        one = threading.Thread(target=self._all, args=(job, list(indices), stop), daemon=True)
        self._threads.append(one)
        one.start()

    def stop(self, job: Object) -> None:
        """A Job was deleted: its pods are killed."""
        if (event := self._stopped.get(job["metadata"]["uid"])) is not None:
            event.set()

    def close(self) -> None:
        """Kill everything, and wait until it is gone."""
        for event in self._stopped.values():
            event.set()
        for one in self._threads:
            one.join(timeout=30)

    def _all(self, job: Object, indices: list[int], stop: threading.Event) -> None:
        """Pods of all indices at once; the first that fails for good fails the Job."""
        ends: dict[int, tuple[str, str] | None] = {}
        indexed = job["spec"].get("completionMode") == "Indexed"
        threads = [
            threading.Thread(
                target=lambda i=i: ends.update({i: self._of_index(job, i if indexed else None, stop)})
            )
            for i in indices
        ]
        deadline = job["spec"].get("activeDeadlineSeconds")
        late = threading.Timer(deadline, stop.set) if deadline else None
        began = time.monotonic()
        if late is not None:
            late.daemon = True
            late.start()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if late is not None:
            late.cancel()
        failed = next((end for end in ends.values() if end is not None and end[0] != "Complete"), None)
        if stop.is_set() and deadline and time.monotonic() - began >= deadline:
            failed = ("DeadlineExceeded", "Job was active longer than specified deadline")
        elif stop.is_set() and failed is None:
            return  # deleted
        self._finish(job, failed)

    def _of_index(self, job: Object, index: int | None, stop: threading.Event) -> tuple[str, str] | None:
        """The end of one index; if it failed for good, the Job has, and its other pods are ended."""
        end = self._one(job, index, stop)
        if end is not None and end[0] != "Complete":
            stop.set()
        return end

    def _one(self, job: Object, index: int | None, stop: threading.Event) -> tuple[str, str] | None:
        """Pods of one index, one after the other; reason and message of the end, None if stopped."""
        counted, limit = 0, job["spec"].get("backoffLimit", 6)
        # However late this thread comes, a Job that reaches its deadline has had its pods.
        first = True
        while not stop.is_set() or (first and self._is_kept(job)):
            first = False
            pod = self._pod(job, index)
            status = self._run(pod, stop)
            if status is None or stop.is_set():
                return None
            if status["phase"] == "Succeeded":
                return "Complete", ""
            action, words = verdict(job["spec"].get("podFailurePolicy"), pod, status)
            if action == "FailJob":
                return "PodFailurePolicy", words
            counted += action == "Count"
            if counted > limit:
                return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
            time.sleep(_BACKOFF)
        return None

    def _is_kept(self, job: Object) -> bool:
        try:
            self._objects.get("jobs", job["metadata"]["namespace"], job["metadata"]["name"])
        except ApiError:  # deleted
            return False
        return True

    def _run(self, pod: Object, stop: threading.Event) -> Object | None:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        fault = self._faults.of_pod(pod)
        if fault is not None and fault.status["phase"] == "Pending":
            self._objects.patch("pods", namespace, name, {"status": fault.status})
            while not stop.wait(_LOOK):
                pass
            return None
        self._objects.patch("pods", namespace, name, {"status": {"phase": "Running", "startTime": now()}})
        status = self._runner.run(pod, fault, stop)
        if status is not None:
            try:
                self._objects.patch("pods", namespace, name, {"status": status})
            except ApiError:  # deleted meanwhile, with its Job
                return None
        return status

    def _pod(self, job: Object, index: int | None) -> Object:
        template, name = copy.deepcopy(job["spec"]["template"]), job["metadata"]["name"]
        metadata = template.get("metadata") or {}
        number = "" if index is None else f"-{index}"
        metadata |= {
            "name": f"{name}{number}-{uuid.uuid4().hex[:5]}",
            "labels": {**(metadata.get("labels") or {}), "job-name": name},
            "ownerReferences": [
                {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "name": name,
                    "uid": job["metadata"]["uid"],
                    "controller": True,
                }
            ],
        }
        spec = template["spec"]
        if index is not None:
            spec["hostname"] = f"{name}-{index}"
            metadata["annotations"] = {
                **(metadata.get("annotations") or {}), INDEX: str(index)
            }  # fmt: skip
            for container in spec["containers"]:
                container.setdefault("env", []).append({"name": "JOB_COMPLETION_INDEX", "value": str(index)})
        pod = {"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}
        return self._objects.create("pods", job["metadata"]["namespace"], pod)

    def _finish(self, job: Object, failed: tuple[str, str] | None) -> None:
        condition: Object = {"type": "Complete", "status": "True", "lastTransitionTime": now()}
        if failed is not None:
            condition |= {"type": "Failed", "reason": failed[0], "message": failed[1]}
        status = {
            "conditions": [condition],
            "succeeded": int(failed is None),
            "failed": int(failed is not None),
        }
        try:
            self._objects.patch(
                "jobs", job["metadata"]["namespace"], job["metadata"]["name"], {"status": status}
            )
        except ApiError:  # deleted while its last pod ended
            return


def verdict(policy: Object | None, pod: Object, status: Object) -> tuple[str, str]:
    """What a pod failure policy says of a failed pod: Count, Ignore or FailJob, and why.

    Rules are looked at in their order, the first that fits decides; without one the failure counts.
    """
    for number, rule in enumerate((policy or {}).get("rules") or ()):
        words = f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']} matches rule {number}"
        if _fits(rule, status):
            return rule["action"], words
    return "Count", ""


def _fits(rule: Object, status: Object) -> bool:
    if (wanted := rule.get("onExitCodes")) is not None:
        codes = [
            one["state"]["terminated"]["exitCode"]
            for one in status.get("containerStatuses") or ()
            if "terminated" in one["state"] and one["name"] == wanted.get("containerName", one["name"])
        ]
        inside = wanted["operator"] == "In"
        return any(code != 0 and (code in wanted["values"]) == inside for code in codes)
    present: set[tuple[Any, Any]] = {(one["type"], one["status"]) for one in status.get("conditions") or ()}
    return any(
        (one["type"], one.get("status", "True")) in present for one in rule.get("onPodConditions") or ()
    )
