"""Why a run on Kubernetes failed, in words: what Jobs, pods and events say, and what to do about it.

ZenML writes the cause into the log of the orchestrator's pod, or nowhere: a pod that never starts is no error
to it, and a run whose steps failed ends like one that went well. Source: issue 8, point 6.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TIMEOUT = (
    20  # seconds that one question to the API server may take; it is asked when something is wrong already
)
_LOG_LINES = 400  # of the orchestrator's pod; a refusal stands in its last ones
_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_CONFIGURATION = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_ANSWER = re.compile(r"HTTP response body: (?P<body>\{.*\})|(?P<late>Read timed out)")
_NOT_STARTED = re.compile(
    r"Node `?([^`\s]+)`? failed to start\.(.*?)(?=\nNode |\nSkipping node|\nThe following steps|\Z)",
    re.DOTALL,
)
_STEP_FAILED = re.compile(r"Job for step `?([^`\s]+)`? failed: (.+)")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Cause:
    """Why something did not go on.

    Args:
        what: step, or the orchestrator.
        reason: Kubernetes' own word, e.g. ``OOMKilled``.
        words: what happened and what to do.
    """

    what: str
    reason: str
    words: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.what}: {self.words}"


def of_run(core: Any, batch: Any, namespace: str, run_id: str) -> list[Cause]:
    """The causes that the cluster still knows; [] where nothing failed or nothing is left of it.

    Args:
        core: ``CoreV1Api`` of the Kubernetes client.
        batch: ``BatchV1Api``.
        namespace: of the runs.
        run_id: of ZenML.

    Raises:
        kubernetes.client.ApiException, urllib3 errors: the API server refuses or does not answer.
    """
    jobs = _listed(batch.list_namespaced_job, namespace, f"run_id={run_id}")
    found: list[Cause] = []
    for job in jobs:
        if _condition(job, "Complete") is None:
            pods = _listed(core.list_namespaced_pod, namespace, f"job-name={job['metadata']['name']}")
            found += of_job(job, pods, _events(core, namespace, job, pods))
    orchestrators = [one for one in jobs if _step(one) is None]
    for job in orchestrators:
        for pod in _listed(core.list_namespaced_pod, namespace, f"job-name={job['metadata']['name']}"):
            found += of_log(_log(core, namespace, pod["metadata"]["name"]), {one.what for one in found})
    return list(dict.fromkeys(found))


def of_job(
    job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]] = ()
) -> list[Cause]:
    """The causes of one Job that has not come to a good end.

    Args:
        job: as the API gives it.
        pods: of the Job; the newest says most.
        events: about the Job or its pods.
    """
    what = f"step {step}" if (step := _step(job)) else "the orchestrator"
    newest = sorted(pods, key=lambda one: str(one["metadata"].get("creationTimestamp")))[-1:]
    found = [cause for pod in newest for cause in _of_pod(what, pod)]
    failed = _condition(job, "Failed")
    if failed is not None and failed.get("reason") == "DeadlineExceeded":
        words = "ran longer than active_deadline_seconds allows; raise it, or look why it took so long"
        found.append(Cause(what, "DeadlineExceeded", words))
    elif failed is not None and not found:
        said = failed.get("message") or failed.get("reason") or "Kubernetes does not say why"
        found.append(Cause(what, str(failed.get("reason")), f"its Job failed: {said}"))
    if not pods:
        found += [
            Cause(
                what,
                "FailedCreate",
                f"no pod could be made: {one.get('message')}; {_advice(str(one.get('message')))}",
            )
            for one in events
            if one.get("reason") == "FailedCreate"
        ][-1:]
    return found


def _of_pod(what: str, pod: Mapping[str, Any]) -> Iterable[Cause]:
    status, name = pod.get("status") or {}, pod["metadata"]["name"]
    for one in status.get("conditions") or ():
        if one["type"] == "DisruptionTarget" and one["status"] == "True":
            told = status.get("message") or one.get("message") or ""
            reason = status.get("reason") or one.get("reason") or "DisruptionTarget"
            yield Cause(what, reason, _disrupted(name, reason, told))
            return
        if one["type"] == "PodScheduled" and one["status"] == "False":
            yield Cause(
                what, "Unschedulable",
                f"no node fits: {one.get('message')}; compare requests, node_selectors and tolerations with "
                "the nodes (`kubectl describe nodes`), or wait for the autoscaler",
            )  # fmt: skip
    for container in status.get("containerStatuses") or ():
        yield from _of_container(what, pod, container)


def _of_container(what: str, pod: Mapping[str, Any], container: Mapping[str, Any]) -> Iterable[Cause]:
    state, name = container.get("state") or {}, pod["metadata"]["name"]
    if waiting := state.get("waiting"):
        reason, said = waiting.get("reason") or "", waiting.get("message") or ""
        image = container.get("image") or pod["spec"]["containers"][0].get("image")
        if reason in _IMAGE:
            words = (
                f"the image {image} cannot be pulled ({reason}: {said}); is it there, may the service "
                "account pull it (image_pull_secrets), is it built for the nodes' processors?"
            )
            yield Cause(what, reason, words)
        elif reason in _CONFIGURATION:
            yield Cause(what, reason, f"the container cannot be made ({said}); a Secret or volume is missing")
    terminated = state.get("terminated") or {}
    if terminated.get("reason") == "OOMKilled":
        limit = _limit(pod, container["name"])
        words = (
            f"its memory limit{limit} was reached and the kernel killed it (OOMKilled); raise "
            "resources.limits.memory (shared memory counts too), or lower micro_batch_tokens"
        )
        yield Cause(what, "OOMKilled", words)
    elif terminated.get("exitCode"):
        words = f"ended with exit code {terminated['exitCode']}; its own message: kubectl logs {name}"
        yield Cause(what, f"exit {terminated['exitCode']}", words)


def _disrupted(pod: str, reason: str, said: str) -> str:
    what = {
        "Evicted": "was evicted by the kubelet",
        "TerminationByKubelet": "was evicted by the kubelet",
        "PreemptionByScheduler": "had to make room for a pod of higher priority",
        "DeletionByTaintManager": "lost its node (it no longer answers)",
        "DeletionByPodGC": "lost its node (it is gone)",
        "EvictionByEvictionAPI": "was moved off its node, which is being drained",
    }.get(reason, "was taken away")
    return (
        f"pod {pod} {what} ({reason}: {said}); such pods are started again as often as `retry` allows, and "
        "training goes on from its last checkpoint: raise retry.max_retries, or use nodes that stay"
    )


def _limit(pod: Mapping[str, Any], container: str) -> str:
    for one in pod["spec"]["containers"]:
        if one["name"] == container:
            limit = ((one.get("resources") or {}).get("limits") or {}).get("memory")
            return f" of {limit}" if limit else ""
    return ""


def of_log(log: str, known: Collection[str] = ()) -> list[Cause]:
    """What the log of the orchestrator's pod tells that the cluster has forgotten.

    Jobs that ZenML gave up it has also removed, and one that the API server refused was never there.

    Args:
        log: as it was printed.
        known: whose causes are told already.
    """
    text, found = _COLOURS.sub("", log), []
    for match in _NOT_STARTED.finditer(text):
        # Each try left its answer in the log; the last one's traceback may be folded to a terminal's width.
        reason, said = _answer(match[2]) or _answer(text[: match.start()]) or ("Unknown", "its log says more")
        words = f"the API server did not take its Job: {said}; {_advice(said)}"
        found.append(Cause(f"step {match[1]}", reason, words))
    told = {*known, *(one.what for one in found)}
    for match in _STEP_FAILED.finditer(text):
        if (what := f"step {match[1]}") not in told:
            found.append(Cause(what, "JobFailed", match[2].strip()))
    return found


def _answer(text: str) -> tuple[str, str] | None:
    """Reason and message of the last answer of the API server in a log, or that there was none."""
    last: tuple[str, str] | None = None
    for match in _ANSWER.finditer(text):
        if match["late"]:
            last = "Timeout", "it did not answer in time"
            continue
        try:
            said = json.loads(match["body"])
        except json.JSONDecodeError:  # cut off
            continue
        last = str(said.get("reason")), f"{said.get('message')} ({said.get('code')})"
    return last


def _advice(said: str) -> str:
    if "exceeded quota" in said:
        return "wait until other runs have ended, or raise the ResourceQuota of the namespace"
    if " cannot " in said:
        return "give the service account that permission (deploy/kubernetes/base has all that is needed)"
    if "already exists" in said:
        return "it did before, and its answer was lost: delete that Job, then run the same command again"
    if said.endswith("(422)"):
        return "mend the setting that it names"
    return "is the control plane well (kubectl get --raw /readyz)? Then run the same command again"


def _step(job: Mapping[str, Any]) -> str | None:
    step: str | None = (job["metadata"].get("labels") or {}).get("step_name")
    return step


def _condition(job: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    for one in (job.get("status") or {}).get("conditions") or ():
        if one["type"] == kind and one["status"] == "True":
            found: Mapping[str, Any] = one
            return found
    return None


def _listed(ask: Any, namespace: str, labels: str) -> list[dict[str, Any]]:
    """Objects as plain JSON: the client's own classes refuse what newer servers write."""
    answer = ask(namespace, label_selector=labels, _request_timeout=_TIMEOUT, _preload_content=False)
    items: list[dict[str, Any]] = json.loads(answer.data)["items"]
    return items


def _events(
    core: Any, namespace: str, job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Events about a Job that has no pod; only there they say more than the pods."""
    from kubernetes.client import ApiException

    if pods:
        return []
    chosen = f"involvedObject.name={job['metadata']['name']}"
    try:
        answer = core.list_namespaced_event(
            namespace, field_selector=chosen, _request_timeout=_TIMEOUT, _preload_content=False
        )
    except ApiException:  # who starts runs need not be allowed to read events
        return []
    items: list[Mapping[str, Any]] = json.loads(answer.data)["items"]
    return items


def _log(core: Any, namespace: str, pod: str) -> str:
    from kubernetes.client import ApiException

    try:
        answer = core.read_namespaced_pod_log(
            pod, namespace, tail_lines=_LOG_LINES, _request_timeout=_TIMEOUT, _preload_content=False
        )
    except ApiException:  # the pod has not begun, or is gone
        return ""
    text: str = answer.data.decode(errors="replace")
    return text
