"""The training pipeline on a tiny collection, through the real launcher and the real local stack.

A copy of the sources runs, in a state folder of its own, so that the test may edit them.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import write_tiny_beir
from tests.e2e.checkout import SOURCES, Checkout, copy_sources, steps_that

SYSTEMS = ("bm25", "base", "adapted", "finetuned", "finetuned_without_adaptation")
METRICS = ("ndcg_at_10", "mrr_at_10", "recall_at_100", "map_at_100")
EDITED = "llara_core/evaluation/report.py"
# What the edited module can reach, and the four steps that look at the world outside.
RERUN = {"report", "identify", "recall", "gauge", "promote"}
STEPS = {
    "identify", "ingest", "recall", "validate", "duplicates", "leaks", "data_report", "accept", "segment",
    "prepare", "adapt", "mine", "audit", "validate_mine", "finetune", "finetune_without_adaptation",
    "evaluate", "register", "gauge", "promote", "report",
}  # fmt: skip


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    root = copy_sources(tmp_path_factory.mktemp("checkout"))
    return Checkout(root, write_tiny_beir(root / "data"))


@pytest.fixture(scope="session")
def first(checkout: Checkout) -> subprocess.CompletedProcess[str]:
    done = checkout.launch()
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="session")
def edited(checkout: Checkout, first: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    with (checkout.root / EDITED).open("a", encoding="utf-8") as source:
        source.write("\n# an edit\n")
    done = checkout.launch()
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="session")
def recorded(checkout: Checkout, first: subprocess.CompletedProcess[str]) -> Iterator[dict[str, Any]]:
    """What MLflow and ZenML know after the first run, and what the registered model says."""
    yield checkout.ask(
        """
import json, mlflow
from zenml.client import Client
client = mlflow.MlflowClient()
experiment = client.get_experiment_by_name("llara")
runs = client.search_runs([experiment.experiment_id])
run = runs[0]
version = client.get_model_version_by_alias("llara-retriever", "champion")
model = mlflow.pyfunc.load_model("models:/llara-retriever@champion")
import pandas as pd
vectors = model.predict(pd.DataFrame({"text": ["lava", "lava", ""], "kind": ["query", "passage", "query"]}))
from steps.registry import bundle_of
from llara_core.model.bundle import read_bundle
last = Client().get_pipeline("training").last_successful_run
print(json.dumps({
    "runs": len(runs), "metrics": run.data.metrics, "params": run.data.params, "tags": run.data.tags,
    "artifacts": [one.path for one in client.list_artifacts(run.info.run_id)],
    "curve": [one.step for one in client.get_metric_history(run.info.run_id, "adapt/loss")],
    "inputs": sorted([one.dataset.name, one.dataset.digest] for one in run.inputs.dataset_inputs),
    "artifact_location": experiment.artifact_location,
    "version": version.version, "aliases": version.aliases, "version_tags": version.tags,
    "vectors": vectors.tolist(), "signature": model.metadata.signature.to_dict(),
    "fingerprint": read_bundle(bundle_of("llara-retriever", version.version)).fingerprint,
    "pages": {name: str(value) for name, value in last.run_metadata.items() if name.startswith("page_")},
    "lineage": {name: sorted(one.name for ones in step.inputs.values() for one in ones)
                for name, step in last.steps.items()},
}))
"""
    )


def test_the_table_names_every_system_and_the_registration(
    checkout: Checkout, first: subprocess.CompletedProcess[str]
) -> None:
    for word in (*SYSTEMS, "nDCG@10", "recall@100", "against BM25", "against unadapted"):
        assert word in first.stdout
    assert "Registered llara-retriever version 1, alias champion: there was no champion yet" in first.stdout
    assert str(checkout.local / "reports" / "tiny.html") in first.stdout
    assert "make mlflow-ui" in first.stdout
    assert "Traceback" not in first.stdout + first.stderr


def test_every_step_ran(first: subprocess.CompletedProcess[str]) -> None:
    assert steps_that("has finished", first.stdout) == STEPS


def test_pages_lie_where_the_table_says(checkout: Checkout, first: subprocess.CompletedProcess[str]) -> None:
    report = (checkout.local / "reports" / "latest.html").read_text(encoding="utf-8")
    assert report == (checkout.local / "reports" / "tiny.html").read_text(encoding="utf-8")
    figures = json.loads((checkout.local / "reports" / "tiny.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in figures["systems"]] == list(SYSTEMS)
    assert "finetuned" in report and "<script src=" not in report
    assert "<strong>Promoted</strong>" in report and "there was no champion yet" in report.lower()
    audit = (checkout.local / "reports" / "mining_audit.html").read_text(encoding="utf-8")
    assert "<script src=" not in audit and "tiny" in audit
    assert f"Negatives  {checkout.local / 'reports' / 'mining_audit.html'}" in first.stdout
    assert "every critical expectation holds" in (checkout.local / "reports" / "data_docs.html").read_text()
    data = (checkout.local / "reports" / "data_report.html").read_text(encoding="utf-8")
    assert "<script src=" not in data and "tiny" in data
    assert f"Data       {checkout.local / 'reports' / 'data_report.html'}" in first.stdout


def test_mlflow_has_one_run_with_parameters_metrics_curves_and_pages(
    checkout: Checkout, recorded: dict[str, Any]
) -> None:
    assert recorded["runs"] == 1
    for system in SYSTEMS:
        for metric in METRICS:
            assert 0 <= recorded["metrics"][f"tiny/{system}/{metric}"] <= 1
    assert recorded["params"]["adapt.steps"] == "4"
    assert recorded["params"]["model.from_scratch.hidden_size"] == "32"
    assert recorded["curve"] == [1, 2, 3, 4]
    assert (
        "finetune/loss" in recorded["metrics"] and "finetune_without_adaptation/loss" in recorded["metrics"]
    )
    pages = {
        "report.html", "data_docs.html", "data_report.html", "mining_audit.html", "validate_mine.html",
        "comparison.json", "promotion.md", "promotion.json",
    }  # fmt: skip
    assert pages <= set(recorded["artifacts"])
    assert recorded["tags"]["page/data_docs"] == "data_docs.html"
    assert recorded["tags"]["page/data_report"] == "data_report.html"
    reports = (checkout.local / "reports").as_uri()
    assert recorded["pages"]["page_data_docs"] == f"{reports}/data_docs.html"
    assert recorded["pages"]["page_data_report"] == f"{reports}/data_report.html"
    assert (
        recorded["metrics"]["collection/rows_read"] == recorded["metrics"]["collection/rows_accepted"] == 64
    )
    assert recorded["metrics"]["leaks/evaluation_queries"] == 8
    assert 0 <= recorded["metrics"]["mine/suspected.share"] <= 1
    assert recorded["artifact_location"].startswith(checkout.local.as_uri())
    (trained_on, digest), (judged_on, same) = recorded["inputs"]
    assert judged_on == f"{trained_on}/test" and digest == same


def test_the_champion_is_loaded_from_code_and_answers(recorded: dict[str, Any]) -> None:
    assert sorted(recorded["aliases"]) == ["challenger", "champion"]
    query, passage, empty = recorded["vectors"]
    assert len(query) == 32
    for vector in (query, passage, empty):
        assert sum(value * value for value in vector) == pytest.approx(1, abs=1e-5)
    assert query != passage
    assert recorded["fingerprint"] == recorded["version_tags"]["fingerprint"]


def test_the_version_says_where_it_comes_from(recorded: dict[str, Any]) -> None:
    tags = recorded["version_tags"]
    assert tags["system"] in ("finetuned", "finetuned_without_adaptation") and "adapt" in tags["arm_reason"]
    key = f"tiny/{tags['system']}/ndcg_at_10"
    assert float(tags["ndcg_at_10"]) == pytest.approx(recorded["metrics"][key])
    assert json.loads(tags["configuration"])["seed"] == 7
    assert "torch" in json.loads(tags["environment"])["packages"]
    assert tags["promoted"] == "true" and "no champion" in tags["promotion_reason"]
    assert len(tags["data_hash"]) == 64


def test_lineage_connects_the_steps(recorded: dict[str, Any]) -> None:
    lineage = recorded["lineage"]
    assert lineage["ingest"] == ["source_fingerprint"]
    assert lineage["accept"] == ["duplicates", "ingested", "leaks"]
    assert {"collection", "leaks"} <= set(lineage["evaluate"])
    assert lineage["finetune"] == ["adapted_model", "collection", "hard_negatives"]
    assert lineage["finetune_without_adaptation"] == ["base_model", "collection", "hard_negatives"]
    assert lineage["promote"] == ["gate_evidence", "registration"]
    assert lineage["report"] == ["evaluation", "promotion"]


def test_nothing_is_pickled(checkout: Checkout, recorded: dict[str, Any]) -> None:
    stored = [path for path in checkout.local.rglob("*") if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in stored)
    assert [path for path in stored if path.suffix in (".pkl", ".pickle", ".pt", ".bin")] == []


def test_every_system_leaves_its_run_and_its_scores(checkout: Checkout, recorded: dict[str, Any]) -> None:
    [systems] = {path.parents[1] for path in checkout.local.glob("artifacts/evaluate/**/mteb.json")}
    for system in SYSTEMS:
        scores = json.loads((systems / system / "mteb.json").read_text())["scores"]["test"][0]
        assert scores["ndcg_at_10"] == recorded["metrics"][f"tiny/{system}/ndcg_at_10"]
        line = (systems / system / "run.trec").read_text().splitlines()[0].split()
        assert line[0].startswith("test-") and line[1::2] == ["Q0", "1", system]


def test_state_stays_below_the_local_folder(
    checkout: Checkout, first: subprocess.CompletedProcess[str]
) -> None:
    made = {path.name for path in checkout.root.iterdir()} - set(SOURCES)
    assert made == {".local", "data"}


def test_an_edit_reruns_exactly_the_steps_that_use_the_module(
    edited: subprocess.CompletedProcess[str],
) -> None:
    assert steps_that("has finished", edited.stdout) == RERUN
    assert steps_that("Using cached version", edited.stdout) == STEPS - RERUN


def test_a_repeated_run_registers_no_second_version(edited: subprocess.CompletedProcess[str]) -> None:
    assert "Registered llara-retriever version 1, alias champion" in edited.stdout


def test_data_that_breaks_a_rule_trains_nothing(
    checkout: Checkout, edited: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    broken = write_tiny_beir(tmp_path / "broken")
    with (broken / "qrels" / "test.tsv").open("a", encoding="utf-8") as target:
        target.write("test-comet\tnowhere\t1\n")
    done = checkout.launch(LLARA_TINY=str(broken))
    assert done.returncode == 2
    assert steps_that("has started", done.stdout) == {"identify", "ingest"}
    aside = checkout.local / "quarantine" / "tiny"
    assert (aside / "quarantine" / "quarantine.arrow").is_file() and str(aside) in last_line(done)
    last = last_line(done)
    assert last.startswith(f"llara: {broken / 'qrels' / 'test.tsv'}:18: ")
    assert "[known_document]" in last
    assert "Traceback" not in done.stdout + done.stderr


def test_a_changed_collection_is_compared_with_the_one_accepted_before(
    checkout: Checkout, edited: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    docs = checkout.local / "reports" / "data_docs.html"
    assert "no earlier accepted version" in docs.read_text(encoding="utf-8")
    changed = write_tiny_beir(tmp_path / "changed")
    corpus = changed / "corpus.jsonl"
    corpus.write_text(corpus.read_text(encoding="utf-8").replace("lava", "magma"), encoding="utf-8")
    done = checkout.launch(LLARA_TINY=str(changed))
    assert done.returncode == 0, done.stdout + done.stderr
    said = docs.read_text(encoding="utf-8")
    assert "no earlier accepted version" not in said and "drift" in said.lower()
    back = checkout.launch()
    assert back.returncode == 0
    assert "no earlier accepted version" not in docs.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "extra", "complaint"),
    [
        (["--config", "nowhere.yaml"], {}, "nowhere.yaml: no such configuration file"),
        ([], {"LLARA_TINY": "/nowhere/data"}, "/nowhere/data: no such folder"),
    ],
)
def test_unusable_input_ends_with_one_line_and_exit_code_2(
    checkout: Checkout, arguments: list[str], extra: dict[str, str], complaint: str
) -> None:
    done = checkout.launch(*arguments, **extra)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.strip() == f"llara: {done.stderr.strip().removeprefix('llara: ')}"
    assert complaint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_ctrl_c_in_the_middle_registers_nothing(
    checkout: Checkout, first: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    before = checkout.ask(VERSIONS)
    endless = yaml.safe_load((checkout.root / "configs" / "tiny.yaml").read_text(encoding="utf-8"))
    endless["parameters"]["finetune"]["steps"] = 20_000
    config = tmp_path / "endless.yaml"
    config.write_text(yaml.safe_dump(endless), encoding="utf-8")
    output = tmp_path / "output.txt"
    with output.open("w") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines", "training", "--config", str(config)],
            cwd=checkout.root,
            env=checkout.environment(),
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    give_up = time.monotonic() + 200
    while "Step `finetune` has started" not in output.read_text() and time.monotonic() < give_up:
        assert process.poll() is None, output.read_text()
        time.sleep(0.2)
    time.sleep(2)  # into the training itself
    process.send_signal(signal.SIGINT)
    # One that is lost is sent again, and a process that is held up ends itself (pipelines.interrupts).
    code, said = process.wait(timeout=150), output.read_text()
    assert code == 1, said
    assert "interrupted" in said.lower() and "Traceback" not in said
    assert checkout.ask(VERSIONS) == before


VERSIONS = """
import json, mlflow
model = mlflow.MlflowClient().get_registered_model("llara-retriever")
print(json.dumps([model.aliases, [one.version for one in model.latest_versions]]))
"""
