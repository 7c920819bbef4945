"""Production mode on loopback: everything a pod reaches is a service, and nothing is a path of this machine.

A ZenML server with a service account, artifacts and data in S3, MLflow behind a server, and the cluster of
the tests, whose pods are processes. What a person does first is done by the commands of
``docs/kubernetes.md``.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import write_tiny_beir
from tests.kube import services
from tests.kube.cluster import CONTEXT, PERSON, Cluster

ROOT = services.ROOT
NAMESPACE = "llara"
STACK = "llara-kubernetes"
PASSWORD = "planted-zenml-password"
IMAGE = f"registry.example.com/llara@sha256:{'a' * 64}"
_SERVICE_ACCOUNT = """
from zenml.client import Client
client = Client()
account = client.create_service_account("llara")
print(client.create_api_key(account.id, "tests").key)
"""


@dataclass(frozen=True)
class Production:
    """The set-up, and a person's machine that works with it."""

    folder: Path
    cluster: Cluster
    store: services.Store
    api_key: str
    values: Path  # the environment file of `make stack-kubernetes`
    open: Mapping[str, str]

    def environment(self) -> dict[str, str]:
        """Of the person's shell, after ``source .local/kubernetes.env``."""
        return {
            **services.plain_environment(), **self.open, "ZENML_STORE_API_KEY": self.api_key,
            "KUBECONFIG": str(self.cluster.kubeconfig), "LLARA_LOCAL": str(self.folder / "local"),
            "HOME": str(self.folder), "ZENML_ANALYTICS_OPT_IN": "false",
        }  # fmt: skip

    def run(self, *words: str, seconds: float, log: str | None = None) -> str:
        """Run ``python -m WORDS`` on the person's machine; returns what it printed.

        Raises:
            AssertionError: it failed, or took too long; shows the end of what it printed.
        """
        file = self.folder / f"{log or words[0].replace('.', '-')}.log"
        with file.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", *words], cwd=ROOT, env=self.environment(), stdout=sink,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            code = process.wait(seconds)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said = file.read_text(errors="replace")
        assert code == 0, f"{words}: exit code {code}\n{said[-6000:]}"
        return said

    def ask(self, program: str, seconds: float = 120) -> Any:
        """Run a program there and return the JSON that it prints last."""
        done = subprocess.run(
            [sys.executable, "-c", f"from pipelines import environment; environment.apply()\n{program}"],
            cwd=ROOT, env=self.environment(), capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout.strip().splitlines()[-1])

    def pods(self, step: str) -> list[dict[str, Any]]:
        """The pods that a step has had, oldest first."""
        return [
            one
            for one in self.cluster.objects.list("pods", NAMESPACE)
            if one["metadata"]["labels"].get("step_name") == step
        ]


@contextmanager
def production(folder: Path, collection: Callable[[Path], Path] = write_tiny_beir) -> Iterator[Production]:
    """Set it all up; takes about a minute and a half, and ends every process that it started.

    Args:
        folder: of everything that is made.
        collection: writes the BEIR folder that lies in S3 as ``${LLARA_COLLECTION}``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        store = stack.enter_context(services.s3(folder))
        _upload(collection(folder / "collection"), store)
        mlflow = stack.enter_context(services.mlflow_server(folder, store))
        zenml = stack.enter_context(services.zenml_server(folder, PASSWORD))
        brought = {**image_environment(), "OMP_NUM_THREADS": "1"}
        cluster = stack.enter_context(Cluster(folder / "cluster", processes=True, environment=brought))
        cluster.grants |= granted()
        told = {
            "ZENML_STORE_URL": zenml, "LLARA_KUBE_CONTEXT": CONTEXT, "LLARA_KUBE_NAMESPACE": NAMESPACE,
            "LLARA_REGISTRY": "registry.example.com", "LLARA_IMAGE": IMAGE, "LLARA_IMAGE_BUILDER": "kaniko",
            "LLARA_ARTIFACTS": "s3://llara/zenml", "LLARA_S3_ENDPOINT": store.url,
            "LLARA_S3_REGION": services.REGION, "MLFLOW_TRACKING_URI": mlflow, "LLARA_COLLECTION": "s3://llara/data/collection",
        }  # fmt: skip
        secret = {
            "ZENML_STORE_API_KEY": _service_account(folder, zenml),
            "LLARA_S3_KEY": store.key, "LLARA_S3_SECRET": store.secret,
            "MLFLOW_TRACKING_TOKEN": "planted-mlflow-token",
        }  # fmt: skip
        values = folder / "kubernetes.env"
        values.write_text("".join(f"{name}={value}\n" for name, value in {**told, **secret}.items()))
        made = Production(folder, cluster, store, secret["ZENML_STORE_API_KEY"], values, told)
        made.run("pipelines.kubernetes_stack", "--env", str(values), seconds=180)
        yield made


def image_environment() -> dict[str, str]:
    """What the image brings along, from its Dockerfile; ``/app`` is the checkout."""
    text = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    lines = re.search(r"^ENV ((?:.*\\\n)*.*)", text, re.MULTILINE)
    assert lines is not None
    pairs = dict(word.split("=", 1) for word in lines[1].replace("\\\n", " ").split())
    # Of a machine that has another layout; and here every pod compiles what an image has compiled.
    own = {"PATH", "HOME", "PYTHONDONTWRITEBYTECODE"}
    return {name: value.replace("/app", str(ROOT)) for name, value in pairs.items() if name not in own}


def granted() -> dict[str, set[tuple[str, str, str]]]:
    """What ``deploy/kubernetes/base`` lets each service account do; a person may do what a launcher may."""
    text = (ROOT / "deploy" / "kubernetes" / "base" / "rbac.yaml").read_text(encoding="utf-8")
    documents = list(yaml.safe_load_all(text))
    rules = {(one["kind"], one["metadata"]["name"]): one["rules"] for one in documents if "rules" in one}
    found: dict[str, set[tuple[str, str, str]]] = {"llara-step": set()}
    for binding in (one for one in documents if "roleRef" in one):
        role = rules[binding["roleRef"]["kind"], binding["roleRef"]["name"]]
        allowed = {
            (group, resource, verb)
            for rule in role
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }
        for subject in binding["subjects"]:
            found.setdefault(subject["name"], set()).update(allowed)
    return {**found, PERSON: found["llara-launcher"]}


def tiny_profile(folder: Path, name: str = "gpu-1", **changes: Mapping[str, Any]) -> Path:
    """A profile of ours with the parameters of ``configs/tiny.yaml``: all the rest is as committed.

    Args:
        folder: gets the file.
        name: of the profile.
        changes: settings that differ, by stage.
    """
    profile = yaml.safe_load((ROOT / "configs" / "kubernetes" / f"{name}.yaml").read_text(encoding="utf-8"))
    tiny = yaml.safe_load((ROOT / "configs" / "tiny.yaml").read_text(encoding="utf-8"))
    profile["parameters"] = tiny["parameters"] | {
        "collection": {"source": "${LLARA_COLLECTION}", "name": "tiny"},
        "registry": profile["parameters"].get("registry", {}),
    }
    for stage, settings in changes.items():
        profile["parameters"][stage] = {**profile["parameters"][stage], **settings}
    # A cluster is asked every ten seconds; this one has less to do.
    profile["settings"]["orchestrator.kubernetes"]["job_monitoring_interval"] = 1
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(profile, sort_keys=False), encoding="utf-8")
    return file


def _service_account(folder: Path, zenml: str) -> str:
    environment = services.plain_environment() | {
        "ZENML_STORE_URL": zenml, "ZENML_STORE_USERNAME": "default", "ZENML_STORE_PASSWORD": PASSWORD,
        "ZENML_CONFIG_PATH": str(folder / "admin"), "ZENML_ANALYTICS_OPT_IN": "false",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", _SERVICE_ACCOUNT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.strip().splitlines()[-1]


def _upload(collection: Path, store: services.Store) -> None:
    client = services.client(store)
    for file in collection.rglob("*"):
        if file.is_file():
            client.upload_file(
                str(file), "llara", f"data/collection/{file.relative_to(collection).as_posix()}"
            )
