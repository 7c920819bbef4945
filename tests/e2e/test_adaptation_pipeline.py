"""Adapt once on a folder of text, then start a training run from the registered champion."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import TOPICS, write_jsonl, write_tiny_beir
from tests.e2e.checkout import REPOSITORY, Checkout, copy_sources, steps_that

pytestmark = pytest.mark.timeout(1200)  # a busy machine takes ten times as long as an idle one
REFERENCE = "models:/llara-adapted@champion"
STEPS = {
    "identify_text", "ingest_text", "segment", "training_passages", "held_out_passages", "prepare", "adapt",
    "judge_adaptation", "register_adapted", "promote_adapted",
}  # fmt: skip


def parameters() -> dict[str, Any]:
    """The tiny recipe of the training pipeline, for its model."""
    return yaml.safe_load((REPOSITORY / "configs" / "tiny.yaml").read_text(encoding="utf-8"))["parameters"]


def write_text(folder: Path) -> Path:
    """Three kinds of file, 40 documents in all."""
    rows = [
        {"id": number, "title": topic.title(), "text": f"{sentence}. Again {number}: {sentence}."}
        for number in range(4)
        for topic, sentence in TOPICS.items()
    ]
    write_jsonl(folder / "articles.jsonl", rows)
    extracted = [{"text": f"{sentence}. It ends."} for sentence in TOPICS.values()]
    write_jsonl(folder / "AA" / "wiki_00", extracted)
    (folder / "note.txt").write_text("A note about lava. It is hot. It flows down. It cools into rock.")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    root = copy_sources(tmp_path_factory.mktemp("adaptation"))
    write_text(root / "text")
    return Checkout(root, write_tiny_beir(root / "data"), patience=560)


def launch(place: Checkout, kind: str, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    config = place.root / f"{kind}.yaml"
    config.write_text(yaml.safe_dump({"parameters": values}), encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "pipelines", kind, "--config", str(config)],
        cwd=place.root,
        env=place.environment(),
        capture_output=True,
        text=True,
        timeout=place.patience,
        check=False,
    )


@pytest.fixture(scope="module")
def adaptation(place: Checkout) -> subprocess.CompletedProcess[str]:
    tiny = parameters()
    done = launch(
        place, "adaptation",
        {
            "seed": 7,
            "text": {"source": str(place.root / "text"), "name": "notes", "held_out": 6},
            "model": tiny["model"],
            "adapt": {**tiny["adapt"], "preset": "from_scratch", "steps": 8, "learning_rate": 3e-3},
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def training(
    place: Checkout, adaptation: subprocess.CompletedProcess[str]
) -> subprocess.CompletedProcess[str]:
    tiny = parameters()
    model = {**tiny["model"], "base": REFERENCE}
    del model["from_scratch"]
    mine = {**tiny["mine"], "rounds": 2}
    done = launch(place, "training", {**tiny, "model": model, "adapt": {"steps": 0}, "mine": mine})
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def recorded(place: Checkout, training: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    answer: dict[str, Any] = place.ask(
        """
import dataclasses, json, mlflow
from zenml.client import Client
from llara_core.model.bundle import read_bundle
from steps.registry import bundle_of
client = mlflow.MlflowClient()
adapted = client.get_model_version_by_alias("llara-adapted", "champion")
tuned = client.get_model_version_by_alias("llara-retriever", "champion")
run = client.get_run(adapted.run_id)
last = Client().get_pipeline("training").last_successful_run
def made(step, output):
    return last.steps[step].outputs[output][0]
def used(step, name):
    return [str(one.id) for one in last.steps[step].inputs[name]]
def history(version):
    bundle = read_bundle(bundle_of(version.name, version.version))
    return {"base": bundle.base_model, "hashes": bundle.data_hashes, "fingerprint": bundle.fingerprint,
            "history": [dataclasses.asdict(stage) for stage in bundle.history]}
print(json.dumps({
    "adapted": {"version": adapted.version, "tags": adapted.tags, "bundle": history(adapted),
                "metrics": run.data.metrics},
    "tuned": {"tags": tuned.tags, "bundle": history(tuned)},
    "rounds": {
        "first": str(made("finetune", "finetuned_model").id),
        "adapted": str(made("adapt", "adapted_model").id),
        "miner": used("mine_round_2", "model"), "start": used("finetune_round_2", "start"),
        "registered": used("register", "model"),
        "last": read_bundle(made("finetune_round_2", "finetuned_model").load().path).fingerprint,
        "negatives": [made(step, "hard_negatives").load().content_hash for step in ("mine", "mine_round_2")],
    },
}))
"""
    )
    return answer


def test_the_outcome_says_what_was_learnt_and_how_to_go_on(
    adaptation: subprocess.CompletedProcess[str],
) -> None:
    assert steps_that("has finished", adaptation.stdout) == STEPS
    assert "Registered llara-adapted version 1, alias champion: held-out loss" in adaptation.stdout
    assert f"Start from it with model.base: {REFERENCE}" in adaptation.stdout
    assert "6 passages held out" in adaptation.stdout
    assert "Traceback" not in adaptation.stdout + adaptation.stderr


def test_the_version_carries_its_lineage(recorded: dict[str, Any]) -> None:
    adapted = recorded["adapted"]
    tags = adapted["tags"]
    assert adapted["version"] in (1, "1")
    assert float(tags["held_out_loss"]) < float(tags["held_out_loss_of_base"])
    assert tags["text"] == "notes" and adapted["bundle"]["hashes"] == {"notes": tags["data_hash"]}
    assert tags["base_model"] == "from scratch: llama" and tags["template"] == "slots"
    assert json.loads(tags["configuration"])["adapt"]["steps"] == 8
    assert "torch" in json.loads(tags["environment"])["packages"]
    assert [stage["name"] for stage in adapted["bundle"]["history"]] == ["prepare", "adapt"]
    assert [line["step"] for line in adapted["bundle"]["history"][1]["curve"]] == list(range(1, 9))
    assert adapted["metrics"]["held_out/adapted/loss"] == pytest.approx(float(tags["held_out_loss"]))


def test_a_training_run_starts_from_the_champion_and_says_so(
    recorded: dict[str, Any], training: subprocess.CompletedProcess[str]
) -> None:
    assert {"resolve", "prepare", "adapt", "finetune"} <= steps_that("has finished", training.stdout)
    assert "finetune_without_adaptation" not in steps_that("has finished", training.stdout)
    bundle, adapted = recorded["tuned"]["bundle"], recorded["adapted"]
    assert bundle["base"] == recorded["tuned"]["tags"]["base_model"] == "models:/llara-adapted/1"
    assert set(bundle["hashes"]) == {"notes", "tiny"}
    assert [stage["name"] for stage in bundle["history"]] == ["prepare", "adapt", "prepare", "finetune"]
    assert bundle["history"][2]["facts"]["base_fingerprint"] == adapted["bundle"]["fingerprint"]
    assert json.loads(recorded["tuned"]["tags"]["configuration"])["model"]["base"] == REFERENCE


def test_the_second_round_mines_with_the_first_rounds_model(
    place: Checkout, recorded: dict[str, Any], training: subprocess.CompletedProcess[str]
) -> None:
    rounds = recorded["rounds"]
    assert {"mine_round_2", "audit_round_2", "finetune_round_2"} <= steps_that(
        "has finished", training.stdout
    )
    assert rounds["miner"] == [rounds["first"]] and rounds["start"] == [rounds["adapted"]]
    assert recorded["tuned"]["bundle"]["fingerprint"] == rounds["last"]
    assert rounds["registered"] != [rounds["first"]]
    assert rounds["negatives"][0] != rounds["negatives"][1]
    for page in ("mining_audit.html", "mining_audit_round_2.html"):
        assert str(place.local / "reports" / page) in training.stdout


def test_the_search_that_is_printed_works_and_encodes_nothing_again(
    place: Checkout, training: subprocess.CompletedProcess[str]
) -> None:
    line = next(line for line in training.stdout.splitlines() if line.startswith("Search"))
    kept = {path.name for path in (place.local / "vectors").iterdir()}
    done = subprocess.run(
        shlex.split(line.removeprefix("Search")),
        cwd=place.root,
        env=place.environment(),
        capture_output=True,
        text=True,
        timeout=place.patience,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 10
    assert "taken from" in done.stderr  # the vectors are those of the evaluation
    assert {path.name for path in (place.local / "vectors").iterdir()} == kept


def test_an_unknown_name_ends_with_the_names_that_exist(
    place: Checkout, training: subprocess.CompletedProcess[str]
) -> None:
    tiny = parameters()
    model = {"base": "models:/lama@champion", "template": "slots"}
    done = launch(place, "training", {**tiny, "model": model})
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert "'lama'" in last and "llara-adapted, llara-retriever" in last
    assert "Traceback" not in done.stdout + done.stderr
