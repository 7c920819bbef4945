"""The sharded pipeline on a cluster in production mode: each shard a pod, one of them lost with its node.

Every pod is a process of this machine that gets what its manifest gives it and nothing else; ZenML, S3 and
MLflow are servers on loopback, the profile is the committed one. The corpus has three blocks, the least that
makes three shards. About fifteen processes that import ZenML; `cluster/logs` in the test's folder says how
far it is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kube import faults, manifests, services
from tests.kube.production import NAMESPACE, PASSWORD, ROOT, STACK, Production, production

for package in ("boto3", "kubernetes", "kubernetes_validate", "moto", "mlflow", "zenml"):
    pytest.importorskip(package)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
PATIENCE = 1500.0  # seconds for the pipeline; six minutes on two busy cores
PASSAGES = 2 * 16_384 + 100  # three blocks, the last of them nearly empty
MINE = {"negatives": 2, "bm25_depth": 5, "dense_depth": 5}
SEED = 3
MODEL = "llara-sharded"
LOST = "map-encode_shard-1"  # label of the second of three, `map:encode_shard:1` to ZenML
ENCODING = "volumes/llara-checkpoints/shards/*/1/*/vectors.npy"  # it has begun, and stored nothing yet
_REGISTER = f"""
import json
from pathlib import Path
import mlflow
from steps import registry
from tests.training.two_processes import make_base
bundle = make_base(Path("%s") / "base")
mlflow.set_experiment("llara")
with mlflow.start_run():
    number = registry.log_version("{MODEL}", bundle, 24, {{}})
print(json.dumps(number))
"""
# What one process makes of the same collection and model, and what the pods have made.
_COMPARE = f"""
import hashlib, json
from pathlib import Path
from zenml.client import Client
from llara_core.config import Bm25Settings, MineSettings
from llara_core.data.collection import Collection
from llara_core.model.retriever import Retriever
from llara_core.retrieval.mining import mine
from llara_core.retrieval.vectors import stored_vectors
from steps import registry
from steps.stored.negatives import open_audit
from steps.stored.shards import vectors_below
from steps.stored.table import write_table

def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()

place = Path("%s")
run = Client().get_pipeline("sharded").last_run
made = {{name: one for step in run.steps.values() for name, one in step.regular_outputs.items()}}
collection = Collection.load(made["ingested"].load().path)
encoder = Retriever.from_pretrained(registry.folder_of("models:/{MODEL}/1"))
one = stored_vectors(encoder, collection.passages, place / "one")
merged = vectors_below(made["corpus_vectors"].load()) / one.folder.name
settings = MineSettings.parse({MINE}, "mine")
mined = mine(collection, encoder, settings, Bm25Settings(), {SEED}, cache=place / "one")
negatives = made["hard_negatives"].load()
print(json.dumps({{
    "status": str(run.status.value),
    "steps": {{name: str(each.status.value) for name, each in run.steps.items()}},
    "uris": [each.uri for each in made.values()],
    "passages": len(collection.passages),
    "rows": mined.table.num_rows,
    "by_pods": [digest(merged / "vectors.npy"), digest(merged / "hashes.npy"),
                digest(negatives.path / "table.arrow")],
    "by_one": [digest(one.folder / "vectors.npy"), digest(one.folder / "hashes.npy"),
               digest(write_table(mined.table, place / "table"))],
    "same_audit": open_audit(negatives) == mined.audit,
}}))
"""


@pytest.fixture(scope="module")
def prod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    with production(tmp_path_factory.mktemp("sharded")) as made:
        yield made


@pytest.fixture(scope="module")
def done(prod: Production) -> dict[str, Any]:
    """What is known of the run after its end."""
    _upload(prod)
    assert prod.ask(_REGISTER % prod.folder, seconds=300) == "1"
    prod.cluster.faults.plant(faults.node_lost(LOST, found=ENCODING))
    words = ("sharded", "-c", str(_profile(prod)), "-s", STACK)
    said = prod.run("pipelines", *words, seconds=PATIENCE, log="run")
    prod.cluster.faults.plant()
    return {**prod.ask(_COMPARE % prod.folder, seconds=600), "said": said}


def test_merged_vectors_and_negatives_are_those_of_one_process(done: dict[str, Any]) -> None:
    assert done["status"] == "completed"
    assert (done["passages"], done["rows"] > 0) == (PASSAGES, True)
    assert done["by_pods"] == done["by_one"]
    assert done["same_audit"]


def test_each_shard_is_a_pod_and_the_lost_one_alone_was_started_again(
    prod: Production, done: dict[str, Any]
) -> None:
    pods = Counter(_steps_of_pods(prod))
    shards = {name: count for name, count in pods.items() if "encode_shard" in name}
    assert shards == {"map-encode_shard-0": 1, LOST: 2, "map-encode_shard-2": 1}
    assert {count for name, count in pods.items() if name not in shards} == {1}
    assert len([name for name in pods if "mine_shard" in name]) == 2
    # All steps but those that only count, and the orchestrator's pod.
    named = {name.replace(":", "-") for name in done["steps"]}
    assert named - set(pods) == {"shard_numbers", "part_numbers"}


def test_each_shard_has_a_gpu_and_the_orchestrator_none(prod: Production, done: dict[str, Any]) -> None:
    for job in prod.cluster.recorder.bodies("create", "jobs"):
        step = job["metadata"]["labels"].get("step_name", "")
        expected = 1 if "encode_shard" in step or "mine_shard" in step else 0
        assert manifests.gpus(job) == expected, step


def test_pods_run_locked_down_with_an_end_and_no_secret_in_clear(
    prod: Production, done: dict[str, Any]
) -> None:
    planted = [prod.store.secret, prod.api_key, PASSWORD, "planted-mlflow-token"]
    for job in prod.cluster.recorder.bodies("create", "jobs"):
        spec, [container] = manifests.pod_spec(job), manifests.containers(job)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert job["spec"]["activeDeadlineSeconds"] > 0
    said = [text for one in prod.cluster.recorder.requests for text in manifests.texts(one.body)]
    assert not any(secret in text for secret in planted for text in said)


def test_nothing_lies_on_the_machine_that_started_it(prod: Production, done: dict[str, Any]) -> None:
    assert done["uris"]
    assert all(uri.startswith("s3://llara/zenml/") for uri in done["uris"]), done["uris"]
    refused = [one for one in prod.cluster.recorder.requests if one.status in (401, 403)]
    assert refused == []


def test_the_end_says_what_was_made(done: dict[str, Any]) -> None:
    assert "corpus_vectors, version 1, of 3 shards: s3://llara/zenml/" in done["said"]
    assert "hard_negatives, version 1, of 2 parts: s3://llara/zenml/" in done["said"]


def _steps_of_pods(prod: Production) -> list[str]:
    pods = prod.cluster.objects.list("pods", NAMESPACE)
    return [name for one in pods if (name := one["metadata"]["labels"].get("step_name")) is not None]


def _upload(prod: Production) -> None:
    """The tiny collection, and as many short documents more as make three blocks."""
    client = services.client(prod.store)
    corpus = (prod.folder / "collection" / "corpus.jsonl").read_text(encoding="utf-8")
    more = PASSAGES - len(corpus.splitlines())
    rows = (
        {"_id": f"filler-{number}", "title": "", "text": f"entry {number} of a list"}
        for number in range(more)
    )
    whole = corpus + "".join(json.dumps(row) + "\n" for row in rows)
    client.put_object(Bucket="llara", Key="data/collection/corpus.jsonl", Body=whole.encode())


def _profile(prod: Production) -> Path:
    """The committed profile; only what is encoded, and how often the cluster is asked, differs."""
    values = yaml.safe_load((ROOT / "configs" / "kubernetes" / "sharded.yaml").read_text(encoding="utf-8"))
    values["parameters"] = {
        "seed": SEED, "collection": {"source": "${LLARA_COLLECTION}", "name": "tiny"},
        "model": f"models:/{MODEL}/1", "shards": {"encoding": 3, "mining": 2}, "mine": MINE,
    }  # fmt: skip
    places = [values, *values["steps"].values()]
    for one in places:
        one["settings"]["orchestrator.kubernetes"]["job_monitoring_interval"] = 1
    file = prod.folder / "sharded.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return file
