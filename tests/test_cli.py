"""The ``llara`` command, run for real on a tiny collection: what every stage gives."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from llara_core.cli.app import run

SCORES = ["ndcg_at_10", "mrr_at_10", "recall_at_100", "map_at_100", "queries", "documents"]


def fingerprint(bundle):
    return json.loads((bundle / "llara.json").read_text())["fingerprint"]


def test_stages_hand_over_bundles(work):
    cards = {name: json.loads((work / name / "llara.json").read_text()) for name in ("adapted", "finetuned")}
    assert [stage["name"] for stage in cards["adapted"]["history"]] == ["prepare", "adapt"]
    assert [stage["name"] for stage in cards["finetuned"]["history"]] == ["prepare", "adapt", "finetune"]
    assert len({fingerprint(work / name) for name in ("base", "adapted", "finetuned")}) == 3
    # Neither a temporary base model nor a half-written sibling is left.
    assert sorted(path.name for path in work.iterdir()) == sorted(
        ["tiny", "c.yaml", "base", "adapted", "negatives.jsonl", "finetuned"]
    )


def test_negatives_are_no_positives(work):
    rows = [json.loads(line) for line in (work / "negatives.jsonl").read_text().splitlines()]
    assert len(rows) == 16
    assert set(rows[0]) == {"query_id", "corpus_id", "source", "rank", "score"}
    for row in rows:
        assert row["corpus_id"] != row["query_id"].replace("train-", "") + "-0"


def test_overrides_and_seed_reach_the_stage(work, tmp_path):
    shared = ["--data", f"{work}/tiny", "-c", f"{work}/c.yaml"]
    start = ["adapt", *shared, "--base", f"{work}/base"]
    for name, more in {"same": [], "seed": ["--seed", "6"], "steps": ["--set", "adapt.steps=1"]}.items():
        assert run([*start, *more, "-o", f"{tmp_path}/{name}"]) == 0
    assert fingerprint(tmp_path / "same") == fingerprint(work / "adapted")
    assert len({fingerprint(tmp_path / name) for name in ("same", "seed", "steps")}) == 3


def test_adapt_without_base_makes_one_from_the_settings(work, tmp_path):
    command = ["adapt", "--data", f"{work}/tiny", "-c", f"{work}/c.yaml", "-o", f"{tmp_path}/out/adapted"]
    assert run(command) == 0
    assert fingerprint(tmp_path / "out" / "adapted") == fingerprint(work / "adapted")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["adapted"]


def test_adaptation_needs_no_labels(work, beir_folder, tmp_path):
    (beir_folder / "queries.jsonl").unlink()
    shutil.rmtree(beir_folder / "qrels")
    assert run(["adapt", "--data", str(beir_folder), "-c", f"{work}/c.yaml", "-o", f"{tmp_path}/out"]) == 0
    assert fingerprint(tmp_path / "out") != fingerprint(work / "adapted")  # the tokenizer saw no queries


@pytest.mark.parametrize("model", ["bm25", "finetuned"])
def test_evaluate_writes_exactly_the_contract(work, tmp_path, capsys, model):
    chosen = model if model == "bm25" else f"{work}/{model}"
    output = tmp_path / "scores.json"
    assert run(["evaluate", "--model", chosen, "--data", f"{work}/tiny", "--output", str(output)]) == 0
    scores = json.loads(output.read_text())
    assert list(scores) == SCORES
    assert (scores["queries"], scores["documents"]) == (8, 24)
    assert all(0.0 <= scores[key] <= 1.0 for key in SCORES[:4])
    if model == "bm25":
        # By hand: every test query names its topic, so the three documents of it come first; the two
        # relevant ones are among them whatever their order.
        assert scores["recall_at_100"] == 1.0 and scores["mrr_at_10"] >= 0.5
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and lines[0].startswith("tiny/test ") and f"{scores['ndcg_at_10']:.4f}" in lines[0]


def test_evaluate_other_split(work, capsys):
    assert run(["evaluate", "--model", "bm25", "--data", f"{work}/tiny", "--split", "train"]) == 0
    assert capsys.readouterr().out.startswith("tiny/train bm25: ndcg_at_10 ")


def test_search_finds_by_words(work, capsys):
    command = ["search", "--model", "bm25", "--data", f"{work}/tiny", "--top", "2"]
    assert run([*command, "basalt eruption"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for rank, line in enumerate(lines, start=1):
        cells = line.split("\t")
        assert cells[0] == str(rank) and float(cells[1]) > 0
        assert cells[2].startswith("volcano-") and cells[3].startswith("Volcano | Part")
    assert run([*command, "xylophone"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and "nothing found" in captured.err


def test_search_gives_json(work, capsys):
    command = ["search", "--model", f"{work}/finetuned", "--data", f"{work}/tiny", "--json", "--top", "24"]
    assert run([*command, "honey"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [one["rank"] for one in results] == list(range(1, 25))
    scores = [one["score"] for one in results]
    assert scores == sorted(scores, reverse=True)
    assert set(results[0]) == {"rank", "score", "id", "title", "text"}


def test_passages_cannot_steer_the_terminal(beir_folder, capsys):
    line = {"_id": "evil\u001b[2J", "title": "", "text": "zebra \u001b]0;owned\u0007 \u009b31m crossing"}
    for number in range(300):  # few enough rows to be tolerated
        line_text = json.dumps({"_id": str(number), "text": "filler text"})
        with (beir_folder / "corpus.jsonl").open("a") as stream:
            stream.write(line_text + "\n")
    with (beir_folder / "corpus.jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    assert run(["search", "--model", "bm25", "--data", str(beir_folder), "zebra"]) == 0
    out = capsys.readouterr().out
    assert "zebra ]0;owned" in out
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", out)


def test_search_needs_only_a_corpus(beir_folder, capsys):
    (beir_folder / "queries.jsonl").unlink()
    shutil.rmtree(beir_folder / "qrels")
    assert run(["search", "--model", "bm25", "--data", str(beir_folder), "tugboats"]) == 0
    assert "harbour-0" in capsys.readouterr().out


def test_encode_writes_vectors_ids_and_origin(work, tmp_path):
    output = tmp_path / "vectors"
    assert run(["encode", "--model", f"{work}/finetuned", "--data", f"{work}/tiny", "-o", str(output)]) == 0
    vectors = np.load(output / "vectors.npy", allow_pickle=False)
    assert vectors.dtype == np.float32 and vectors.shape == (24, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert json.loads((output / "ids.json").read_text())[0] == "volcano-0"
    facts = json.loads((output / "vectors.json").read_text())
    assert facts["fingerprint"] == fingerprint(work / "finetuned")
    assert (facts["documents"], facts["dimension"]) == (24, 32)


def test_pycode_is_written_as_a_beir_folder(tmp_path, capsys):
    small = ["--set", "collection.pycode.packages=[numpy]", "--set", "collection.pycode.max_functions=60"]
    small += ["--set", "collection.pycode.test_queries=10", "--set", "collection.pycode.dev_queries=5"]
    assert run(["collection", "pycode", f"{tmp_path}/out", *small]) == 0
    assert capsys.readouterr().out.endswith(f"in {tmp_path}/out\n")
    assert run(["evaluate", "--model", "bm25", "--data", f"{tmp_path}/out", "--split", "dev"]) == 0
    assert "queries 5" in capsys.readouterr().out


def test_doctor_exits_by_what_it_finds(capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "9999")
    assert run(["doctor"]) == 1
    captured = capsys.readouterr()
    assert "PROBLEM" in captured.out and "export OMP_NUM_THREADS" in captured.out
    assert "found" in captured.err


def test_version_and_help(capsys):
    assert run(["--version"]) == 0
    assert re.fullmatch(r"llara \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    for name in (
        "prepare",
        "adapt",
        "mine",
        "finetune",
        "evaluate",
        "encode",
        "search",
        "doctor",
        "collection",
    ):
        assert re.search(rf"^  {name} ", out, re.MULTILINE)
