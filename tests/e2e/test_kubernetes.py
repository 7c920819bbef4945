"""A cluster in production mode: the Job of the retraining's CronJob is fired, and trains from inside.

Every pod is a process of this machine that gets what its manifest gives it and nothing else; ZenML, S3 and
MLflow are servers on loopback; the API server grants what `deploy/kubernetes/base` grants. There is no
champion yet, so the tick trains: the whole training pipeline runs on the collection of `make run` with a tiny
model; its adaptation loses a node, and its mining another. About forty processes that import ZenML.
`cluster/logs` in the test's folder says how far it is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from llara_core.config import TrainingSettings
from llara_core.data.format_beir import write_beir
from llara_core.data.formats import load_collection
from llara_core.operations.retention import DAY
from llara_core.operations_settings import RetentionSettings
from llara_core.settings import load_yaml
from pipelines.gc_volume import VolumePlan
from tests.kube import faults, manifests
from tests.kube.cluster import PERSON
from tests.kube.production import NAMESPACE, PASSWORD, ROOT, STACK, Production, production, tiny_profile

for package in ("boto3", "kubernetes", "kubernetes_validate", "moto", "mlflow", "zenml"):
    pytest.importorskip(package)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]
PATIENCE = 3000.0  # seconds for one pipeline; a few minutes on two quiet cores
MODEL = "llara-qwen3-0.6b"  # as the profile names it
# Whole ones only: one that is being written has another name.
CHECKPOINT = "volumes/llara-checkpoints/adapt/run-*/step-0000[1-9][0-9]"
ENCODING = "volumes/llara-checkpoints/vectors/.*.partial/manifest.json"  # it has begun, and is not done
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
    with production(folder, demo_collection) as made:
        yield made


def demo_collection(folder: Path) -> Path:
    """The collection of `make run`, as a BEIR folder."""
    settings = TrainingSettings.parse(load_yaml(ROOT / "configs" / "demo.yaml")["parameters"], "demo")
    return write_beir(load_collection(settings.collection), folder)


@pytest.fixture(scope="module")
def tick(prod: Production) -> dict[str, Any]:
    """What is known of a tick after its Job has ended."""
    prod.cluster.faults.plant(
        faults.node_lost("adapt", found=CHECKPOINT), faults.node_lost("mine", found=ENCODING)
    )
    folder = prod.folder / "schedules"
    folder.mkdir()
    schedule = {
        "pipeline": "retraining", "config": str(_retraining(prod)), "cron": "30 3 * * *", "timezone": "UTC",
        "stack": STACK, "grace_minutes": 60,
    }  # fmt: skip
    (folder / "nightly.yaml").write_text(yaml.safe_dump(schedule))
    words = ("schedule", "apply", "--folder", str(folder))
    prod.run("llara_core.cli", *words, seconds=600, log="schedule")
    [cron] = prod.cluster.objects.list("cronjobs", NAMESPACE)
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"
    job = prod.cluster.fire(cron["metadata"]["name"], NAMESPACE)
    _wait(prod, job["metadata"]["name"])
    prod.cluster.faults.plant()
    return dict(prod.ask(_STATE % "retraining"))


@pytest.fixture(scope="module")
def trained(prod: Production, tick: dict[str, Any]) -> dict[str, Any]:
    """What is known of the training that the tick started."""
    assert tick["status"] == "completed"
    return dict(prod.ask(_STATE % "training"))


def profile(prod: Production) -> Path:
    return tiny_profile(
        prod.folder,
        collection={"name": "demo"},
        adapt={"steps": 100, "checkpoint_every": 5},  # long enough to be interrupted
        mine={"queries": 2000},
    )


def test_a_tick_trains_from_inside_the_cluster(tick: dict[str, Any], trained: dict[str, Any]) -> None:
    assert tick["outcome"]["state"] == "done"
    assert tick["outcome"]["words"].startswith("version 1 was trained and promoted")
    assert trained["name"] == f"{tick['name']}-training"
    assert trained["status"] == "completed"
    assert len(trained["steps"]) == 21
    assert set(trained["steps"].values()) <= {"completed", "cached"}
    assert trained["aliases"]["champion"] == "1"


def test_nothing_lies_on_the_machine_that_started_it(prod: Production, trained: dict[str, Any]) -> None:
    assert trained["uris"]
    assert all(uri.startswith("s3://llara/zenml/") for uri in trained["uris"]), trained["uris"]
    assert not trained["source"].startswith(("/", "file:"))
    assert not list((prod.folder / "local").rglob("*.safetensors"))
    assert not (ROOT / "mlruns").exists()
    assert not (ROOT / "mlflow.db").exists()


def test_a_step_that_lost_its_node_went_on_from_its_checkpoint(
    prod: Production, trained: dict[str, Any]
) -> None:
    first, second = (one["metadata"]["name"] for one in prod.pods("adapt"))
    assert "resuming at step" not in prod.cluster.log(first)
    assert "resuming at step" in prod.cluster.log(second)
    assert {step for step, state in trained["steps"].items() if len(prod.pods(step)) > 2} == set()


def test_an_encoding_that_lost_its_node_went_on_with_what_was_on_the_volume(
    prod: Production, trained: dict[str, Any]
) -> None:
    first, second = (prod.cluster.log(one["metadata"]["name"]) for one in prod.pods("mine"))
    assert "going on where an interrupted run was" not in first
    assert "going on where an interrupted run was" in second


def test_vectors_of_a_run_are_shared_and_go_when_nobody_uses_them(
    prod: Production, trained: dict[str, Any]
) -> None:
    volume = prod.folder / "cluster" / "volumes" / "llara-checkpoints"
    [evaluating] = prod.pods("evaluate")
    taken = re.findall(
        r"vectors of \d+ passages taken from (\S+)", prod.cluster.log(evaluating["metadata"]["name"])
    )
    assert taken  # those of the adapted model, which mining had encoded
    assert {volume / "vectors" / name for name in taken} <= set((volume / "vectors").iterdir())
    settings = RetentionSettings()

    def going(days: float) -> set[Path | None]:
        moment = time.time() + days * DAY
        return {one.path for one in VolumePlan(settings, [volume], moment).items if one.keep is None}

    assert going(0.9 * settings.volume_days) == set()
    assert {volume / "vectors" / name for name in taken} <= going(1.1 * settings.volume_days)


def test_pods_did_only_what_their_accounts_may(prod: Production, trained: dict[str, Any]) -> None:
    """The API server refuses the rest; here nothing had to be refused."""
    refused = [one for one in prod.cluster.recorder.requests if one.status in (401, 403)]
    assert refused == []
    users = {one.user for one in prod.cluster.recorder.requests}
    assert users == {PERSON, "llara-orchestrator", "llara-launcher"}


def test_no_secret_was_sent_in_clear(prod: Production, trained: dict[str, Any]) -> None:
    planted = [prod.store.secret, prod.api_key, PASSWORD, "planted-mlflow-token"]
    said = [text for one in prod.cluster.recorder.requests for text in manifests.texts(one.body)]
    printed = [file.read_text(errors="replace") for file in (prod.folder / "cluster" / "logs").iterdir()]
    for secret in planted:
        assert not any(secret in text for text in said)
        assert not any(secret in text for text in printed)


def test_a_person_gets_the_same_from_the_cache(prod: Production, trained: dict[str, Any]) -> None:
    """Another machine, the same command: what the tick's training has made is not made again."""
    words = ("training", "-c", str(profile(prod)), "-s", STACK)
    said = prod.run("pipelines", *words, seconds=PATIENCE, log="training")
    again = prod.ask(_STATE % "training")
    assert again["name"] != trained["name"]
    assert again["status"] == "completed"
    assert {again["steps"][step] for step in ("adapt", "finetune", "evaluate", "register")} == {"cached"}
    assert again["versions"] == 1
    assert "nDCG@10" in said


def _retraining(prod: Production) -> Path:
    values = yaml.safe_load((ROOT / "configs" / "kubernetes" / "retraining.yaml").read_text(encoding="utf-8"))
    values["settings"]["orchestrator.kubernetes"]["job_monitoring_interval"] = 1
    values["parameters"]["training"] = str(profile(prod))
    file = prod.folder / "retraining.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return file


def _wait(prod: Production, job: str) -> None:
    until = time.monotonic() + PATIENCE
    while not (conditions := prod.cluster.objects.get("jobs", NAMESPACE, job)["status"].get("conditions")):
        assert time.monotonic() < until, f"{job} did not end"
        time.sleep(1)
    pods = prod.cluster.objects.list("pods", NAMESPACE, f"job-name={job}")
    assert conditions[0]["type"] == "Complete", prod.cluster.log(pods[-1]["metadata"]["name"])[-4000:]
