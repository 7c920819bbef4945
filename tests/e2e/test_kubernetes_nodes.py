"""The adaptation pipeline on two nodes in production mode; one is lost while they train.

Request, pods and result are steps of the real pipeline, each a process that gets what its manifest gives it:
the Indexed Job is made by ZenML's step operator inside of the cluster, and again when the step is retried.
The same pipeline on one node must give the same model. The text is a folder, as a volume that all pods mount.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("kubernetes_validate")
pytest.importorskip("moto")
pytest.importorskip("zenml")

from llara_core.model.bundle import read_bundle
from tests.e2e.test_adaptation_pipeline import parameters, write_text
from tests.kube import faults
from tests.kube.production import NAMESPACE, ROOT, STACK, Production, production
from tests.kube.test_training_pods import difference

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]
PATIENCE = 2400.0  # seconds for one pipeline; nine minutes on two busy cores
PODS = "adapt_on_nodes"
VOLUME = "volumes/llara-checkpoints"
CHECKPOINT = f"{VOLUME}/adapt/run-*/step-*/manifest.json"
# Long enough to be interrupted; so small steps that another order of sums shows in the last digits alone.
LONG = {"preset": "from_scratch", "steps": 60, "checkpoint_every": 5, "learning_rate": 1e-4}
_STATE = """
import json, shutil
from zenml.client import Client
run = Client().get_pipeline("adaptation").last_run
made = run.steps["adapt"].outputs["adapted_model"][0]
start = run.steps["prepare"].outputs["base_model"][0]
for name, one in (("made", made), ("start", start)):
    shutil.copytree(one.load().path, f"{%r}/{name}")
def of(step, name):
    return str(run.steps[step].outputs[name][0].id)
print(json.dumps({
    "status": str(run.status.value),
    "steps": {name: str(one.status.value) for name, one in run.steps.items()},
    "uri": made.uri,
    "made": {"request": of("request_adapt", "training_request")} if "request_adapt" in run.steps else {},
    "inputs": {name: {key: [str(one.id) for one in given] for key, given in step.inputs.items()}
               for name, step in run.steps.items() if name in ("adapt", "request_adapt")},
    "sources": {"base": of("prepare", "base_model"), "passages": of("training_passages", "passages_part")},
    "trained_by": run.steps["adapt"].run_metadata.get("trained_by"),
}, default=str))
"""


@pytest.fixture(scope="module")
def prod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    folder = tmp_path_factory.mktemp("production")
    with production(folder) as made:
        write_text(folder / "text")
        yield made


def adapted(prod: Production, nodes: int) -> dict[str, Any]:
    """Run the pipeline; what is known of it. Its models are copied to ``adapted-<nodes>``."""
    words = ("adaptation", "-c", str(profile(prod.folder, nodes)), "-s", STACK)
    prod.run("pipelines", *words, seconds=PATIENCE, log=f"adaptation-{nodes}")
    return dict(prod.ask(_STATE % str(prod.folder / f"adapted-{nodes}")))


@pytest.fixture(scope="module")
def two_nodes(prod: Production) -> dict[str, Any]:
    """The run on two nodes, of which the second is lost once."""
    prod.cluster.faults.plant(faults.node_lost(PODS, index=1, found=CHECKPOINT))
    known = adapted(prod, 2)
    prod.cluster.faults.plant()
    return known


@pytest.fixture(scope="module")
def one_node(prod: Production, two_nodes: dict[str, Any]) -> dict[str, Any]:
    # Nothing to go on from.
    shutil.rmtree(prod.cluster.folder / VOLUME / "adapt", ignore_errors=True)
    return adapted(prod, 1)


def profile(folder: Path, nodes: int) -> Path:
    """``configs/kubernetes/multi-node.yaml`` for the adaptation of a tiny model; pods as committed."""
    values = yaml.safe_load((ROOT / "configs" / "kubernetes" / "multi-node.yaml").read_text(encoding="utf-8"))
    values["settings"]["orchestrator.kubernetes"]["job_monitoring_interval"] = 1
    values["environment"]["ACCELERATE_USE_CPU"] = "true"  # in the place of GPUs
    tiny = parameters()
    values["parameters"] = {
        "seed": 7,
        "text": {"source": str(folder / "text"), "name": "notes", "held_out": 6},
        "model": tiny["model"],
        "adapt": {**tiny["adapt"], **LONG},
        "launch": {"nodes": nodes, "patience_minutes": 10},
        "registry": {"model_name": f"llara-adapted-{nodes}"},
    }
    chosen = ("request_adapt", PODS, "adapt") if nodes > 1 else ("adapt",)
    values["steps"] = {name: values["steps"][name] for name in chosen}
    file = folder / f"nodes-{nodes}.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return file


def operated(prod: Production) -> list[list[dict[str, Any]]]:
    """The pods of each Indexed Job that the step operator has made, oldest first."""
    jobs = [
        one for one in prod.cluster.objects.list("jobs", NAMESPACE) if one["spec"].get("completions") == 2
    ]
    return [
        prod.cluster.objects.list("pods", NAMESPACE, f"job-name={one['metadata']['name']}") for one in jobs
    ]


def said(prod: Production, pods: list[dict[str, Any]]) -> str:
    return "\n".join(prod.cluster.log(one["metadata"]["name"]) for one in pods)


def test_the_pipeline_goes_on_after_a_lost_node(prod: Production, two_nodes: dict[str, Any]) -> None:
    assert two_nodes["status"] == "completed"
    assert {"request_adapt", PODS, "adapt"} <= two_nodes["steps"].keys()
    assert set(two_nodes["steps"].values()) == {"completed"}
    first, second = operated(prod)
    assert len(first) == len(second) == 2
    assert "pod 1 of 2" in said(prod, first)
    assert "resuming at step" not in said(prod, first)
    assert "resuming at step" in said(prod, second)
    assert "process 0 of 2 on cpu" in said(prod, second)


def test_two_nodes_give_the_model_of_one(
    prod: Production, two_nodes: dict[str, Any], one_node: dict[str, Any]
) -> None:
    assert not {"request_adapt", PODS} & one_node["steps"].keys()
    assert one_node["steps"]["adapt"] == "completed"  # not from the cache
    assert one_node["steps"]["prepare"] == "cached"
    start, one, two = (prod.folder / name for name in ("adapted-1/start", "adapted-1/made", "adapted-2/made"))
    assert difference(one, two) < 1e-6
    assert difference(one, start) > 1e-4  # it was trained at all
    curves = [read_bundle(folder).history[-1].curve for folder in (one, two)]
    assert [line["step"] for line in curves[0]] == [line["step"] for line in curves[1]]
    assert len(curves[0]) == LONG["steps"]


def test_the_lineage_goes_through_the_request(two_nodes: dict[str, Any]) -> None:
    assert two_nodes["uri"].startswith("s3://llara/zenml/")
    assert two_nodes["inputs"]["adapt"]["request"] == [two_nodes["made"]["request"]]
    asked = two_nodes["inputs"]["request_adapt"]
    assert {name: asked[name] for name in ("base", "passages")} == {
        name: [made] for name, made in two_nodes["sources"].items()
    }
    assert two_nodes["trained_by"]["launch"]["nodes"] == 2
