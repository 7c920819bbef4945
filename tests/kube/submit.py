"""``python -m tests.kube.submit ENVIRONMENT_FILE PROFILE…``: submit run configurations, and orchestrate them.

A program of its own, so that ZenML's state is its own too. The real orchestrator submits; then the real
entrypoint of the orchestrator's pod runs, as that pod. Two things are pretended, because a ZenML server takes
a minute to start: that the database is a remote one, and the token that a server would give a run.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import uuid
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

# Every secret that could end up in a manifest; the tests look for each of them in all that was recorded.
PLANTED = {name: f"planted-{name}-f3c1a9" for name in ("token", "s3", "mlflow", "hub", "webhook", "api")}
NAMESPACE = "llara"
IMAGE = f"registry.example.com/llara@sha256:{'a' * 64}"
VALUES = {
    "ZENML_STORE_URL": "https://zenml.example.com", "LLARA_KUBE_CONTEXT": "llara-test",
    "LLARA_KUBE_NAMESPACE": NAMESPACE, "LLARA_REGISTRY": "registry.example.com", "LLARA_IMAGE": IMAGE,
    "LLARA_IMAGE_BUILDER": "kaniko", "LLARA_ARTIFACTS": "s3://llara/zenml",
    "LLARA_S3_ENDPOINT": "http://127.0.0.1:9", "LLARA_S3_REGION": "us-east-1",
    "MLFLOW_TRACKING_URI": "http://mlflow.example.com", "LLARA_COLLECTION": "s3://llara/data/tiny",
    "LLARA_S3_KEY": "key", "LLARA_S3_SECRET": PLANTED["s3"], "MLFLOW_TRACKING_TOKEN": PLANTED["mlflow"],
    "HF_TOKEN": PLANTED["hub"],
}  # fmt: skip
ENVIRONMENT = {
    "LLARA_ALERT_WEBHOOK": f"http://127.0.0.1:9/{PLANTED['webhook']}", "ZENML_STORE_API_KEY": PLANTED["api"],
    # There is no store to write them to.
    "ZENML_DISABLE_PIPELINE_LOGS_STORAGE": "true", "ZENML_DISABLE_STEP_LOGS_STORAGE": "true",
}  # fmt: skip


def set_up(values: Path) -> str:
    """Make secrets and stack as `make stack-kubernetes` does; returns the stack's id."""
    from pipelines import environment, kubernetes_stack, kubernetes_values, stacks

    told = kubernetes_values.read(values)
    # The database is this process's own, whatever server the file names.
    os.environ.update({name: value for name, value in told.open.items() if not name.startswith("ZENML_")})
    os.environ.pop("ZENML_STORE_API_KEY", None)
    environment.apply()
    kubernetes_stack.set_up(told)
    identity = stacks.stack_id(kubernetes_stack.STACK)
    os.environ["ZENML_ACTIVE_STACK_ID"] = identity
    return identity


def as_in_production() -> AbstractContextManager[Any]:
    """Pretend a ZenML server, and be the orchestrator's pod when its entrypoint asks for its name."""
    from zenml.integrations.kubernetes.orchestrators import kubernetes_orchestrator_entrypoint as entrypoint
    from zenml.orchestrators import base_orchestrator, dag_runner, utils
    from zenml.zen_stores.sql_zen_store import SqlZenStore

    real = utils.get_config_environment_vars

    def with_token(*words: Any, **more: Any) -> tuple[dict[str, str], dict[str, str]]:
        values, secrets = real(*words, **more)
        return values, {**secrets, "ZENML_STORE_API_TOKEN": PLANTED["token"]}

    patches = ExitStack()
    patches.enter_context(mock.patch.object(SqlZenStore, "is_local_store", lambda _: False))
    patches.enter_context(mock.patch.object(socket, "gethostname", _pod_of_this_run))
    # Half a second between two looks at the steps is right for a cluster; here steps end at once.
    quick = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: time.sleep(seconds / 20)})
    patches.enter_context(mock.patch.object(dag_runner, "time", quick))
    for module in (base_orchestrator, entrypoint, utils):
        patches.enter_context(mock.patch.object(module, "get_config_environment_vars", with_token))
    return patches


def orchestrate(run: Any) -> str:
    """Run the orchestrator's entrypoint for a submitted run; returns the run's status."""
    from zenml.client import Client
    from zenml.integrations.kubernetes.orchestrators import kubernetes_orchestrator_entrypoint as entrypoint

    sys.argv = ["entrypoint", "--snapshot_id", str(run.snapshot.id), "--run_id", str(run.id)]
    entrypoint.main()
    return str(Client().get_pipeline_run(run.id).status)


def start_pods_of_operated_steps(run: Any) -> None:
    """Start what the step operator carries out, as the steps' own pods would.

    Not through those pods' entrypoint: it asks for the runs of the steps before, which were pretended.
    """
    from kubernetes import config
    from zenml.client import Client
    from zenml.config.step_run_info import StepRunInfo
    from zenml.orchestrators import utils
    from zenml.utils import env_utils

    stack, snapshot = Client().active_stack, run.snapshot
    for name, step in snapshot.step_configurations.items():
        if not step.config.step_operator:
            continue
        info = StepRunInfo.model_construct(
            step_run_id=uuid.uuid4(), run_id=run.id, run_name=run.name, pipeline_step_name=name,
            config=step.config, spec=step.spec, pipeline=snapshot.pipeline_configuration, snapshot=snapshot,
        )  # fmt: skip
        environment, secrets = utils.get_config_environment_vars(pipeline_run_id=run.id)
        environment |= {**secrets, **env_utils.get_runtime_environment(config=step.config, stack=stack)}
        with mock.patch.object(config, "load_incluster_config", config.load_kube_config):
            stack.step_operator.submit_with_allocation(info, list(step.config.command), environment, None)


def main(values: Path, profiles: list[Path]) -> None:
    """Submit each profile once for now and once for every night; prints what became of them as JSON."""
    set_up(values)
    from zenml.config.schedule import Schedule

    from pipelines.training import training_pipeline

    found = []
    with as_in_production():
        for profile in profiles:
            began = time.monotonic()
            run = training_pipeline.with_options(config_path=str(profile))()
            status = orchestrate(run)
            start_pods_of_operated_steps(run)
            nightly = Schedule(name=f"nightly-{profile.stem}", cron_expression="30 3 * * *")
            training_pipeline.with_options(config_path=str(profile), schedule=nightly)()
            found.append({"run": str(run.id), "status": status, "seconds": time.monotonic() - began})
    print(json.dumps(found))  # noqa: T201


def _pod_of_this_run() -> str:
    """Name of the orchestrator's newest pod: what the host name is in that pod."""
    from kubernetes import client
    from zenml.integrations.kubernetes.kube_utils import load_kube_config

    load_kube_config(context=VALUES["LLARA_KUBE_CONTEXT"])
    pods = client.CoreV1Api().list_namespaced_pod(NAMESPACE).items
    own = [one for one in pods if "step_name" not in one.metadata.labels]
    return str(max(own, key=lambda one: int(one.metadata.resource_version)).metadata.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(one) for one in sys.argv[2:]])
