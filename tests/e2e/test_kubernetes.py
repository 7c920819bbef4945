"""The whole training on a cluster in production mode, and the retraining that its CronJob starts.

Every pod is a process of this machine that gets what its manifest gives it and nothing else; ZenML, S3 and
MLflow are servers on loopback; the API server grants what `deploy/kubernetes/base` grants. About fifty
processes that import ZenML. `training.log` in the test's folder, and `cluster/logs`, say how far it is.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kube import faults, manifests, services
from tests.kube.production import NAMESPACE, PASSWORD, ROOT, STACK, Production, production, tiny_profile

for package in ("boto3", "kubernetes", "kubernetes_validate", "moto", "mlflow", "zenml"):
    pytest.importorskip(package)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
PATIENCE = 1500.0  # seconds for one pipeline; four minutes on two quiet cores
MODEL = "llara-qwen3-0.6b"  # as the profile names it
# Whole ones only: one that is being written has another name.
CHECKPOINT = "volumes/llara-checkpoints/adapt/run-*/step-0000[1-9][0-9]"
_STATE = f"""
import json, mlflow
from zenml.client import Client
client = mlflow.MlflowClient()
run = Client().get_pipeline("%s").last_run
print(json.dumps({{
    "name": run.name, "status": str(run.status.value),
    "steps": {{name: str(one.status.value) for name, one in run.steps.items()}},
    "uris": [each.uri for one in run.steps.values() for kind in one.outputs.values() for each in kind],
    "aliases": {{key: str(value) for key, value in client.get_registered_model("{MODEL}").aliases.items()}},
    "versions": len(client.search_model_versions("name = '{MODEL}'")),
    "source": client.get_model_version_by_alias("{MODEL}", "champion").source,
    "outcome": run.steps["act"].outputs["tick_outcome"][0].load() if "act" in run.steps else None,
}}))
"""


@pytest.fixture(scope="module")
def prod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    folder = tmp_path_factory.mktemp("production")
    with production(folder) as made:
        yield made


@pytest.fixture(scope="module")
def trained(prod: Production) -> dict[str, Any]:
    """A training whose adaptation loses its node after its first checkpoints; what is known of it then."""
    prod.cluster.faults.plant(faults.node_lost("adapt", found=CHECKPOINT))
    prod.run("pipelines", "training", "-c", str(profile(prod)), "-s", STACK, seconds=PATIENCE, log="training")
    return dict(prod.ask(_STATE % "training"))


def profile(prod: Production) -> Path:
    # Long enough to be interrupted.
    return tiny_profile(prod.folder, adapt={"steps": 100, "checkpoint_every": 5})


def test_a_training_ends_with_a_registered_model(prod: Production, trained: dict[str, Any]) -> None:
    assert trained["status"] == "completed"
    assert len(trained["steps"]) == 21
    assert set(trained["steps"].values()) == {"completed"}
    assert trained["aliases"]["champion"] == "1"
    assert trained["versions"] == 1


def test_nothing_lies_on_the_machine_that_started_it(prod: Production, trained: dict[str, Any]) -> None:
    assert trained["uris"]
    assert all(uri.startswith("s3://llara/zenml/") for uri in trained["uris"]), trained["uris"]
    assert not trained["source"].startswith(("/", "file:"))
    assert not list((prod.folder / "local").rglob("*.safetensors"))
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--", "llara_core", "steps", "pipelines", "configs", ".local"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "mlruns" not in changed.stdout


def test_a_step_that_lost_its_node_went_on_from_its_checkpoint(
    prod: Production, trained: dict[str, Any]
) -> None:
    first, second = (one["metadata"]["name"] for one in prod.pods("adapt"))
    assert "resuming at step" not in prod.cluster.log(first)
    assert "resuming at step" in prod.cluster.log(second)
    for step in trained["steps"]:
        assert len(prod.pods(step)) == (2 if step == "adapt" else 1), step


def test_pods_did_only_what_their_accounts_may(prod: Production, trained: dict[str, Any]) -> None:
    """The API server refuses the rest; here nothing had to be refused."""
    refused = [one for one in prod.cluster.recorder.requests if one.status in (401, 403)]
    assert refused == []
    users = {one.user for one in prod.cluster.recorder.requests}
    assert "llara-orchestrator" in users
    assert "llara-step" not in users


def test_no_secret_was_sent_in_clear(prod: Production, trained: dict[str, Any]) -> None:
    planted = [prod.store.secret, prod.api_key, PASSWORD, "planted-mlflow-token"]
    said = [text for one in prod.cluster.recorder.requests for text in manifests.texts(one.body)]
    printed = [file.read_text(errors="replace") for file in (prod.folder / "cluster" / "logs").iterdir()]
    for secret in planted:
        assert not any(secret in text for text in said)
        assert not any(secret in text for text in printed)


def test_the_schedules_job_trains_when_the_corpus_has_changed(
    prod: Production, trained: dict[str, Any]
) -> None:
    prod.cluster.faults.plant()
    _change_corpus(prod)
    folder = prod.folder / "schedules"
    folder.mkdir()
    schedule = {
        "pipeline": "retraining", "config": str(_retraining(prod)), "cron": "30 3 * * *", "timezone": "UTC",
        "stack": STACK, "grace_minutes": 60,
    }  # fmt: skip
    (folder / "nightly.yaml").write_text(yaml.safe_dump(schedule))
    prod.run("llara_core.cli", "schedule", "apply", "--folder", str(folder), seconds=300, log="schedule")
    [cron] = prod.cluster.objects.list("cronjobs", NAMESPACE)
    job = prod.cluster.fire(cron["metadata"]["name"], NAMESPACE)
    _wait(prod, job["metadata"]["name"])
    tick = prod.ask(_STATE % "retraining")
    assert tick["status"] == "completed"
    assert tick["outcome"]["state"] == "done"
    assert tick["versions"] == 2
    assert tick["outcome"]["words"].startswith("version 2 was trained and ")


def _retraining(prod: Production) -> Path:
    values = yaml.safe_load((ROOT / "configs" / "kubernetes" / "retraining.yaml").read_text(encoding="utf-8"))
    values["settings"]["orchestrator.kubernetes"]["job_monitoring_interval"] = 1
    values["parameters"]["training"] = str(profile(prod))
    file = prod.folder / "retraining.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return file


def _change_corpus(prod: Production) -> None:
    """Other words in every document: more than the tenth that a new training takes."""
    client = services.client(prod.store)
    key = "data/tiny/corpus.jsonl"
    text = client.get_object(Bucket="llara", Key=key)["Body"].read().decode()
    client.put_object(Bucket="llara", Key=key, Body=text.replace(" about a ", " with news of a ").encode())


def _wait(prod: Production, job: str) -> None:
    until = time.monotonic() + 2 * PATIENCE  # the tick, and the training that it starts
    while not (conditions := prod.cluster.objects.get("jobs", NAMESPACE, job)["status"].get("conditions")):
        assert time.monotonic() < until, f"{job} did not end"
        time.sleep(1)
    pods = prod.cluster.objects.list("pods", NAMESPACE, f"job-name={job}")
    assert conditions[0]["type"] == "Complete", prod.cluster.log(pods[-1]["metadata"]["name"])[-4000:]
