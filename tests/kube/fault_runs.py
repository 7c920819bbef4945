"""``python -m tests.kube.fault_runs FOLDER``: runs of two steps, each with another fault planted.

One process for all of them, because ZenML takes half a minute to begin. Prints what became of each as JSON:
ZenML's status of the run, seconds, pods of the steps, causes in words, the orchestrator's log, and whether
every fault has struck.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from zenml import pipeline, step
from zenml.config import DockerSettings
from zenml.config.retry_config import StepRetryConfig
from zenml.enums import ExecutionMode
from zenml.integrations.kubernetes.flavors import KubernetesOrchestratorSettings

from tests.kube import faults
from tests.kube.cluster import CONTEXT, Cluster
from tests.kube.submit import IMAGE, NAMESPACE, as_in_production, orchestrate, set_up

Planted = faults.ApiFault | faults.PodFault
# Name -> what is planted, and settings that differ from those below.
SCENARIOS: dict[str, tuple[list[Planted], dict[str, Any]]] = {
    "none": ([], {}),
    "quota refused": ([faults.quota_refused("first")], {}),
    "image not pulled": ([faults.image_not_pulled("first")], {}),
    "no node fits": ([faults.unschedulable("first")], {"active_deadline_seconds": 3}),
    "evicted once": ([faults.evicted("first", times=1)], {}),
    "node lost twice": ([faults.node_lost("first", times=2)], {}),
    "out of memory once": ([faults.out_of_memory("first", times=1)], {}),
    "out of memory always": ([faults.out_of_memory("first")], {}),
    "one error 500": ([faults.ApiFault(500, verb="create", resource="jobs", step="first", times=1)], {}),
    "errors 500 while it runs": ([faults.ApiFault(500, verb="get", resource="jobs", after=1, times=2)], {}),
    "errors 500 always": ([faults.ApiFault(500, verb="create", resource="jobs", step="first")], {}),
    "slow": ([faults.ApiFault(seconds=0.3)], {}),
    "one time-out": ([faults.ApiFault(verb="get", resource="jobs", after=1, times=1, seconds=6)], {}),
    "time-outs always": ([faults.ApiFault(verb="create", resource="jobs", step="first", seconds=6)], {}),
    "an answer is lost": (
        [faults.ApiFault(verb="create", resource="jobs", step="first", times=1, lost=6)],
        {},
    ),
}


@step(enable_cache=False)
def first() -> int:
    """A step that only exists as a pod."""
    return 1


@step(enable_cache=False)
def second(number: int) -> int:
    """A step after it."""
    return number


@pipeline(enable_cache=False, execution_mode=ExecutionMode.FAIL_FAST)
def two_steps() -> None:
    """One after the other."""
    second(first())


class _Said(logging.Handler):
    """Keeps what the orchestrator logs, as its pod's log would have it."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line, with its traceback."""
        self.lines.append(self.format(record))


def main(folder: Path) -> None:
    """Run all scenarios."""
    # What is sent is looked at elsewhere; here a look would only take time.
    with Cluster(folder / "cluster", strict=False) as cluster:
        os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
        set_up(folder / "kubernetes.env")
        said = _Said()
        logging.getLogger().addHandler(said)
        with as_in_production():
            found = {name: _run(cluster, said, *scenario) for name, scenario in SCENARIOS.items()}
    print(json.dumps(found))  # noqa: T201


def _run(cluster: Cluster, said: _Said, planted: list[Planted], more: dict[str, Any]) -> dict[str, Any]:
    settings = {
        "service_account_name": "llara-orchestrator", "job_monitoring_interval": 0.05,
        "api_request_timeout": 5, "max_api_retries": 2, "interrupt_check_interval": 0.5,
        "active_deadline_seconds": 60,
    }  # fmt: skip
    docker = DockerSettings(
        parent_image=IMAGE, skip_build=True, allow_download_from_artifact_store=False,
        allow_download_from_code_repository=False,
    )  # fmt: skip
    chosen = KubernetesOrchestratorSettings(**{**settings, **more})
    started = two_steps.with_options(
        settings={"docker": docker, "orchestrator": chosen}, retry=StepRetryConfig(max_retries=1)
    )
    run = started()
    cluster.faults.plant(*planted)
    said.lines.clear()
    began, error = time.monotonic(), None
    try:
        status = orchestrate(run)
    except Exception as one:
        # The pod of the orchestrator would end with an error now, and be started again.
        status, error = "orchestrator failed", f"{type(one).__name__}: {one}"
    finally:
        cluster.faults.plant()
    took = time.monotonic() - began
    return {
        "status": status, "seconds": took, "error": error, "log": "\n".join(said.lines),
        "pods": {name: _pods(cluster, str(run.id), name) for name in ("first", "second")},
        "causes": _causes(cluster, str(run.id), said), "met": all(_struck(one) for one in planted),
    }  # fmt: skip


def _struck(fault: Planted) -> bool:
    return fault.met > (fault.after if isinstance(fault, faults.ApiFault) else 0)


def _pods(cluster: Cluster, run: str, name: str) -> int:
    return len(cluster.objects.list("pods", NAMESPACE, f"run_id={run},step_name={name}"))


def _causes(cluster: Cluster, run: str, said: _Said) -> list[str]:
    """As a person's launcher gets them; the log lies where the pod's would."""
    from kubernetes import client, config

    from pipelines import kubernetes_causes

    logs = cluster.folder / "logs"
    logs.mkdir(exist_ok=True)
    for pod in cluster.objects.list("pods", NAMESPACE, f"run_id={run}"):
        if "step_name" not in pod["metadata"]["labels"]:
            (logs / f"{pod['metadata']['name']}.log").write_text("\n".join(said.lines))
    api = config.new_client_from_config(config_file=str(cluster.kubeconfig), context=CONTEXT)
    core, batch = client.CoreV1Api(api), client.BatchV1Api(api)
    return [str(one) for one in kubernetes_causes.of_run(core, batch, NAMESPACE, run)]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
