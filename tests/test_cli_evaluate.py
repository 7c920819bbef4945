"""``llara evaluate`` over lists: the table, exit codes, results and starting again."""

from __future__ import annotations

import json
import zipfile

import pytest

from llara_core.cli.app import run
from llara_core.evaluation.results import SystemResult
from tests.conftest import write_tiny_beir


@pytest.fixture
def two(tmp_path):
    """Two collections below one folder, called like sets of BEIR."""
    for name in ("scifact", "arguana"):
        write_tiny_beir(tmp_path / "sets" / name)
    return tmp_path / "sets"


def test_a_list_gives_a_table_with_the_average(two, tmp_path, capsys):
    output = tmp_path / "table.json"
    command = ["evaluate", "--model", "bm25", "--data", f"{two}/scifact", "--data", f"{two}/arguana"]
    assert run([*command, "-o", str(output)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["set", "queries", "documents", "nDCG@10", "95%", "interval", "recall@100"]
    assert [line.split()[0] for line in lines[1:4]] == ["scifact", "arguana", "average"]
    record = json.loads(output.read_text())
    first, second = (row["scores"]["ndcg_at_10"] for row in record["rows"])
    assert record["average"]["scores"]["ndcg_at_10"] == pytest.approx((first + second) / 2)
    assert f"{first:.4f}" in lines[1] and "to" in lines[1]
    assert len(lines) == 4  # no published score stands beside 24 documents


def test_sets_by_name(two, tmp_path, capsys):
    with zipfile.ZipFile(two / "nfcorpus.zip", "w") as packed:
        for file in (two / "scifact").rglob("*.*"):
            packed.write(file, f"nfcorpus/{file.relative_to(two / 'scifact')}")
    results = tmp_path / "results"
    command = ["evaluate", "--model", "bm25", "--sets", "arguana, nfcorpus", "--root", str(two)]
    assert run([*command, "--results", str(results)]) == 0
    captured = capsys.readouterr()
    assert "nfcorpus" in captured.out and "do not compare with published ones" in captured.err
    arguana = SystemResult.load(results / "arguana" / "bm25")
    assert arguana.protocol["identical_ids"] == "drop" and arguana.protocol["set"] == "arguana"
    assert SystemResult.load(results / "nfcorpus" / "bm25").protocol["identical_ids"] == "keep"


def test_a_failing_set_is_marked_and_the_rest_kept(two, tmp_path, capsys):
    (two / "scifact" / "corpus.jsonl").write_text('{"_id": 1')
    results = tmp_path / "results"
    command = ["evaluate", "--model", "bm25", "--sets", "scifact,arguana", "--root", str(two)]
    assert run([*command, "--results", str(results)]) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1].split() == ["scifact", "failed"]
    assert "corpus.jsonl:1: malformed JSON" in captured.out and "Traceback" not in captured.err
    assert [path.name for path in results.iterdir()] == ["arguana"]


def test_starting_again_takes_what_is_there(work, two, tmp_path, capsys, monkeypatch):
    """Also without the model: nothing of it is loaded when every set is done."""
    command = ["evaluate", "--model", f"{work}/finetuned", "--sets", "scifact,arguana", "--root", str(two)]
    command += ["--results", f"{tmp_path}/results", "--cache", f"{tmp_path}/vectors"]
    assert run(command) == 0
    first = capsys.readouterr().out
    assert (tmp_path / "results" / "scifact" / "finetuned" / "run.trec").is_file()

    def unused(*_arguments):
        raise AssertionError("the model was loaded again")

    monkeypatch.setattr("llara_core.cli.systems._retriever", unused)
    assert run(command) == 0
    captured = capsys.readouterr()
    assert captured.out == first
    assert captured.err.count("judged before with this model, data and protocol") == 2


def test_vectors_may_be_kept_as_float16(work, two, tmp_path, capsys):
    command = ["evaluate", "--model", f"{work}/finetuned", "--data", f"{two}/scifact"]
    assert run(command) == 0
    whole = capsys.readouterr().out
    assert run([*command, "--set", "evaluate.vectors=float16", "--cache", f"{tmp_path}/vectors"]) == 0
    halved = capsys.readouterr().out
    assert halved.split("queries")[1] == whole.split("queries")[1]
    score = [float(text.split("ndcg_at_10 ")[1].split(",")[0]) for text in (whole, halved)]
    assert score[0] == pytest.approx(score[1], abs=0.02)


def test_one_collection_with_results_keeps_its_line(two, tmp_path, capsys):
    command = ["evaluate", "--model", "bm25", "--data", f"{two}/scifact", "-o", f"{tmp_path}/scores.json"]
    assert run(command) == 0
    line, scores = capsys.readouterr().out, json.loads((tmp_path / "scores.json").read_text())
    assert line.startswith("scifact/test bm25: ndcg_at_10 ") and len(line.splitlines()) == 1
    assert list(scores) == ["ndcg_at_10", "mrr_at_10", "recall_at_100", "map_at_100", "queries", "documents"]
    assert run([*command, "--results", f"{tmp_path}/results", "--name", "lexical"]) == 0
    assert capsys.readouterr().out == line
    assert json.loads((tmp_path / "scores.json").read_text()) == scores
    saved = SystemResult.load(tmp_path / "results" / "scifact" / "lexical")
    assert saved.name == "lexical" and len(saved.per_query) > 20


def test_one_set_by_name_is_a_table_too(two, capsys):
    assert run(["evaluate", "--model", "bm25", "--sets", "scifact", "--root", str(two)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["scifact", "8", "24"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sets", "scifakt"], "did you mean 'scifact'"),
        (["--sets", "robust04"], "not public"),
        (["--sets", " ,"], "--sets is empty"),
        (["--sets", "scifact", "--root", "{tmp}"], "neither a folder scifact nor scifact.zip here"),
        (["--data", "{two}/scifact", "--name", "a/b"], "becomes the name of a folder"),
        (["--data", "{two}/scifact", "--data", "{two}/scifact"], "two of the collections are called"),
        (["--data", "{two}/scifact", "--split", "nope"], "has no split 'nope'"),
    ],
)
def test_bad_input_exits_2_with_one_message(two, tmp_path, capsys, words, said):
    filled = [word.format(tmp=tmp_path, two=two) for word in words]
    assert run(["evaluate", "--model", "bm25", *filled]) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.out == "" and "Traceback" not in captured.err
