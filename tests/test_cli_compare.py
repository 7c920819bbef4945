"""``llara compare``: from saved results to a table, sentences, a page and numbers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llara_core.cli.app import run
from llara_core.cli.compare import find_results
from llara_core.errors import DataError
from tests.oracles.saved_results import PROTOCOL, result

QUERIES = [f"test-{topic}" for topic in
           ("volcano", "orchestra", "bakery", "glacier", "harbour", "beehive", "comet", "loom")]  # fmt: skip
FOUND = [[f"{query.removeprefix('test-')}-1", "loom-0"] for query in QUERIES]
SCORES = {"bm25": np.full(8, 0.25), "better": np.full(8, 0.75), "other": np.linspace(0.0, 0.5, 8)}


def saved(folder: Path, name: str, *, collection: str = "tiny", **changes: Any) -> Path:
    """A result on the tiny collection's test queries."""
    one = result(name, SCORES.get(name, SCORES["other"]), collection, FOUND,
                 query_ids=QUERIES, documents=24, **changes)  # fmt: skip
    return one.save(folder)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """``results/<collection>/<system>/`` as ``llara evaluate --results`` writes them."""
    for name in SCORES:
        saved(tmp_path / "results" / "tiny" / name, name)
    return tmp_path / "results"


def test_compare_tells_what_is_significant_and_writes_what_is_asked(
    results: Path, beir_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, numbers = tmp_path / "out" / "page.html", tmp_path / "out" / "numbers.json"
    command = ["compare", str(results), "--data", str(beir_folder), "-o", str(page), "--json", str(numbers)]
    assert run(command) == 0
    out = capsys.readouterr().out
    # Eight queries that all rise by 0.5: p = 2 / 2^8, doubled by Holm; d_z has no size.
    assert "better is better than bm25 on tiny: +0.500 nDCG@10 [0.500, 0.500], p = 0.016 after Holm." in out
    assert "No difference shown between other and bm25 on tiny: +0.000 nDCG@10" in out
    rows = [line.split() for line in out.splitlines()]
    assert ["tiny", "bm25", "0.250", "[0.250,", "0.250]"] in rows
    assert ["tiny", "better", "0.750", "[0.750,", "0.750]", "+0.500", "[0.500,", "0.500]", "0.016",
            "8/0/0"] in rows  # fmt: skip
    record = json.loads(numbers.read_text(encoding="utf-8"))
    pair = record["collections"][0]["pairs"][0]
    assert (pair["system"], pair["p_value"], pair["p_holm"]) == ("better", 2 / 256, 4 / 256)
    html = page.read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>") and "Part 1 about a volcano. flows down" in html


def test_baseline_metric_and_seed_are_passed_on(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = tmp_path / "numbers.json"
    command = ["compare", str(results), "--baseline", "better", "--seed", "5", "--json", str(numbers)]
    assert run(command) == 0
    assert "bm25 is worse than better on tiny: -0.500" in capsys.readouterr().out
    record = json.loads(numbers.read_text(encoding="utf-8"))
    assert (record["baseline"], record["seed"], record["systems"][0]) == ("better", 5, "better")
    assert run([*command, "--metric", "recall_at_100"]) == 2
    assert "not scored by recall_at_100 (it has ndcg_at_10)" in capsys.readouterr().err


def test_folders_are_found_named_and_ordered(results: Path, tmp_path: Path) -> None:
    found = find_results([str(results)])
    assert [one.name for one in found["tiny"]] == ["bm25", "better", "other"]  # BM25 first, then by name
    single = find_results([str(results / "tiny" / "other"), f"plain={results / 'tiny' / 'bm25'}"])
    assert [one.name for one in single["tiny"]] == ["other", "plain"]
    # The evaluation that a pipeline stores: systems/<name>/.
    saved(tmp_path / "evaluation" / "systems" / "adapted", "adapted")
    assert [one.name for one in find_results([str(tmp_path / "evaluation")])["tiny"]] == ["adapted"]
    # A folder with an equals sign in its name is a folder.
    odd = saved(tmp_path / "k1=0.9", "bm25")
    assert [one.name for one in find_results([str(odd)])["tiny"]] == ["bm25"]
    assert [one.name for one in find_results([f"tuned={odd}"])["tiny"]] == ["tuned"]


def test_one_name_for_a_system_on_several_collections(tmp_path: Path) -> None:
    for collection in ("a", "b"):
        saved(tmp_path / "mine" / collection / "finetuned", "finetuned", collection=collection)
    found = find_results([f"mine={tmp_path / 'mine'}"])
    assert {name: [one.name for one in systems] for name, systems in found.items()} == {
        "a": ["mine"], "b": ["mine"],
    }  # fmt: skip


def test_bad_folders_are_refused(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for word, message in (
        (tmp_path / "missing", "no such folder"),
        (tmp_path / "empty", "no saved result (result.json) here or up to"),
        (f"mine={results}", "'mine' cannot name 3 systems (better, bm25, other)"),
    ):
        with pytest.raises(DataError) as error:
            find_results([str(word)])
        assert message in str(error.value)
    one = results / "tiny" / "bm25"
    assert run(["compare", str(one)]) == 2
    assert "at least two systems, got bm25" in capsys.readouterr().err
    assert run(["compare", str(one), str(one)]) == 2
    assert "NAME=FOLDER" in capsys.readouterr().err
    assert run(["compare"]) == 2


def test_unlike_results_are_refused_before_anything_is_written(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = saved(tmp_path / "else", "else", protocol=PROTOCOL | {"identical_ids": "drop"})
    page = tmp_path / "page.html"
    assert run(["compare", str(results / "tiny" / "bm25"), str(other), "-o", str(page)]) == 2
    assert "identical_ids is 'keep' and 'drop'" in capsys.readouterr().err
    assert not page.exists()


def test_data_must_be_that_of_the_results(
    results: Path, beir_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A renamed folder is taken where there is no doubt which collection it is; its queries tell.
    renamed = beir_folder.rename(beir_folder.with_name("renamed"))
    assert run(["compare", str(results), "--data", str(renamed)]) == 0
    lines = (renamed / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if "test-loom" not in line]
    (renamed / "queries.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
    qrels = renamed / "qrels" / "test.tsv"
    judged = qrels.read_text(encoding="utf-8").splitlines()
    qrels.write_text("\n".join(line for line in judged if "test-loom" not in line) + "\n", encoding="utf-8")
    capsys.readouterr()
    assert run(["compare", str(results), "--data", str(renamed)]) == 2
    assert "lacks: 'test-loom'" in capsys.readouterr().err
    for collection in ("one", "two"):
        for name in ("bm25", "other"):
            saved(results.parent / "many" / collection / name, name, collection=collection)
    assert run(["compare", str(results.parent / "many"), "--data", str(renamed)]) == 2
    assert "no result is on the collection 'renamed'; the results are on one, two" in capsys.readouterr().err


def test_without_a_browser_the_rest_is_there(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)
    page = tmp_path / "page.html"
    assert run(["compare", str(results), "-o", str(page), "--png", str(tmp_path / "png")]) == 1
    shown = capsys.readouterr()
    assert "better is better than bm25" in shown.out and page.is_file()
    assert "llara: figures as PNG need kaleido" in shown.err and "Traceback" not in shown.err
