"""A registered version, a folder and BM25 on two collections, through the real launcher and local stack."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import SETTINGS, write_tiny_beir
from tests.e2e.checkout import Checkout, copy_sources, steps_that
from tests.e2e.test_training_pipeline import METRICS

pytestmark = pytest.mark.timeout(1200)  # a busy machine takes ten times as long as an idle one
REFERENCE = "models:/tiny-model@champion"
SYSTEMS = ("bm25", "tiny-model-v1", "earlier")
# As `steps.registry.log_version` leaves it, without the half minute that MLflow takes to pack a server.
REGISTER = """
import json, mlflow
from pathlib import Path
from llara_core.model.bundle import read_bundle
from steps import registry
model = Path({model!r})
client = mlflow.MlflowClient()
client.create_registered_model("tiny-model")
tags = {{"fingerprint": read_bundle(model / "artifacts" / "bundle").fingerprint}}
version = client.create_model_version("tiny-model", model.as_uri(), tags=tags)
registry.move_champion("tiny-model", version.version, None)
print(json.dumps(str(version.version)))
"""
RECORDED = """
import json, mlflow
client = mlflow.MlflowClient()
experiment = client.get_experiment_by_name("llara")
runs = [run for run in client.search_runs([experiment.experiment_id]) if "judged/bm25" in run.data.tags]
def files(folder):
    listed = client.list_artifacts(runs[0].info.run_id, folder)
    return [path for one in listed for path in (files(one.path) if one.is_dir else [one.path])]
print(json.dumps({
    "runs": len(runs), "metrics": runs[0].data.metrics, "tags": runs[0].data.tags,
    "params": runs[0].data.params, "files": files(None),
    "version_tags": client.get_model_version_by_alias("tiny-model", "champion").tags,
}))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    from llara_core.cli.app import run

    root = copy_sources(tmp_path_factory.mktemp("evaluation"))
    write_tiny_beir(root / "one")
    write_tiny_beir(root / "two")
    with (root / "two" / "corpus.jsonl").open("a", encoding="utf-8") as corpus:
        corpus.write('{"_id": "extra", "title": "", "text": "lava and ice meet below the glacier"}\n')
    # Random weights are models too: nothing here depends on what they have learnt.
    (root / "tiny.yaml").write_text(SETTINGS, encoding="utf-8")
    given = ["prepare", "--data", str(root / "one"), "-c", str(root / "tiny.yaml")]
    for seed, name in enumerate(("earlier", "model/artifacts/bundle")):
        assert run([*given, "--seed", str(seed), "-o", str(root / name)]) == 0
    place = Checkout(root, root / "one", patience=560)
    assert place.ask(REGISTER.format(model=str(root / "model"))) == "1"
    return place


def launch(
    place: Checkout, collections: list[Any], *more: str, models: list[Any] | None = None
) -> subprocess.CompletedProcess[str]:
    values = {
        "models": models or ["bm25", REFERENCE, str(place.root / "earlier")],
        "collections": collections,
    }
    config = place.root / "judged.yaml"
    config.write_text(yaml.safe_dump({"parameters": values}), encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "pipelines", "evaluation", "--config", str(config), *more],
        cwd=place.root,
        env=place.environment(),
        capture_output=True,
        text=True,
        timeout=place.patience,
        check=False,
    )


def vectors(place: Checkout) -> dict[str, int]:
    return {
        str(path.relative_to(place.local)): path.stat().st_mtime_ns
        for path in (place.local / "vectors").rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def first(checkout: Checkout) -> subprocess.CompletedProcess[str]:
    done = launch(checkout, [str(checkout.root / "one"), str(checkout.root / "two")])
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def broken(checkout: Checkout, first: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """The same with a third collection, whose judgements name a document that is not there."""
    third = write_tiny_beir(checkout.root / "three")
    with (third / "qrels" / "test.tsv").open("a", encoding="utf-8") as target:
        target.write("test-comet\tnowhere\t1\n")
    places = [str(checkout.root / name) for name in ("three", "one", "two")]
    return launch(checkout, places)


def test_every_pair_is_judged_and_told(checkout: Checkout, first: subprocess.CompletedProcess[str]) -> None:
    finished = steps_that("has finished", first.stdout)
    assert {f"judge_{system}_on_{name}" for name in ("one", "two") for system in
            ("bm25", "tiny_model_champion", "earlier")} <= finished  # fmt: skip
    for word in (*SYSTEMS, "one", "two", "average of 2", "nDCG@10"):
        assert word in first.stdout
    assert str(checkout.local / "reports" / "evaluation.html") in first.stdout
    assert "Traceback" not in first.stdout + first.stderr


def test_mlflow_and_the_version_say_how_it_was_judged(
    checkout: Checkout, first: subprocess.CompletedProcess[str]
) -> None:
    recorded = checkout.ask(RECORDED)
    assert recorded["runs"] == 1
    for name in ("one", "two"):
        for system in SYSTEMS:
            for metric in METRICS:
                assert 0 <= recorded["metrics"][f"{name}/{system}/{metric}"] <= 1
                for subset in ("no_near_duplicate", "unseen_documents"):
                    assert 0 <= recorded["metrics"][f"subsets/{subset}/{name}/{system}/{metric}"] <= 1
            folder = f"results/{name}/{system}"
            assert {f"{folder}/run.trec", f"{folder}/mteb.json", f"{folder}/result.json"} <= set(
                recorded["files"]
            )
        assert {f"data_report/{name}.html", f"data_docs/{name}.html"} <= set(recorded["files"])
        tags, metrics = recorded["version_tags"], recorded["metrics"]
        assert float(tags[f"evaluation/{name}/ndcg_at_10"]) == metrics[f"{name}/tiny-model-v1/ndcg_at_10"]
        assert tags[f"evaluation/{name}/split"] == "test" and len(tags[f"evaluation/{name}/data_hash"]) == 64
    assert tags["evaluation/one/data_hash"] != tags["evaluation/two/data_hash"]
    assert recorded["tags"]["judged/tiny-model-v1"] == "models:/tiny-model/1"
    assert {"side_by_side.html", "data_docs/one.html", "evaluation/summary.json"} <= set(recorded["files"])
    page = (checkout.local / "reports" / "evaluation.html").read_text(encoding="utf-8")
    assert "tiny-model-v1" in page and "<script src=" not in page


def test_the_command_line_gives_the_same_scores(
    checkout: Checkout, first: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    from llara_core.cli.app import run

    recorded = checkout.ask(RECORDED)["metrics"]
    output = tmp_path / "scores.json"
    given = [
        "--model",
        str(checkout.root / "model" / "artifacts" / "bundle"),
        "--data",
        str(checkout.root / "two"),
    ]
    assert run(["evaluate", *given, "-o", str(output)]) == 0
    scores = json.loads(output.read_text())
    for metric in METRICS:
        assert scores[metric] == pytest.approx(recorded[f"two/tiny-model-v1/{metric}"], abs=1e-6)


def test_a_broken_collection_does_not_lose_the_others(
    checkout: Checkout, broken: subprocess.CompletedProcess[str]
) -> None:
    assert broken.returncode == 1
    last = broken.stderr.strip().splitlines()[-1]
    assert last.startswith("llara: 1 of this evaluation failed: collection three: ")
    assert "[known_document]" in last and "judged: one, two" in last
    assert "Traceback" not in broken.stdout + broken.stderr
    cached = steps_that("Using cached version", broken.stdout)
    assert {"judge_tiny_model_champion_on_one", "judge_earlier_on_two", "admit_one"} <= cached
    assert "side_by_side" in steps_that("has finished", broken.stdout)
    for word in (*SYSTEMS, "one", "two"):
        assert word in broken.stdout
    recorded = checkout.ask(RECORDED)
    assert recorded["runs"] == 2
    assert "one/tiny-model-v1/ndcg_at_10" in recorded["metrics"]
    assert not any(name.startswith("three/") for name in recorded["metrics"])


def test_mended_it_is_judged_and_nothing_is_encoded_twice(
    checkout: Checkout, broken: subprocess.CompletedProcess[str]
) -> None:
    before = vectors(checkout)
    write_tiny_beir(checkout.root / "three")  # the corpus of "one"
    done = launch(checkout, [str(checkout.root / "three")], "--no-cache", models=[REFERENCE])
    assert done.returncode == 0, done.stdout + done.stderr
    assert not steps_that("Using cached version", done.stdout)
    assert "judge_tiny_model_champion_on_three" in steps_that("has finished", done.stdout)
    assert before and vectors(checkout) == before
    assert "three" in done.stdout and "Comparison" not in done.stdout  # there is nothing to compare it with


def test_an_unknown_version_ends_with_what_there_is(checkout: Checkout) -> None:
    done = launch(checkout, [str(checkout.root / "one")], models=["models:/tiny-model@champ"])
    assert done.returncode == 2 and done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("llara: models: models:/tiny-model@champ: tiny-model has no such alias")
    assert "@champion (version 1)" in last
