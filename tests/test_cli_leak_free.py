"""``llara evaluate`` shows, beside the official score, the score on what training has not given away."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from llara_core.cli.app import run
from llara_core.evaluation import beir_runs, subsets
from llara_core.evaluation.metrics import METRICS
from llara_core.evaluation.results import SystemResult
from llara_core.evaluation.subsets import leak_free_cell, leak_free_means
from tests.conftest import write_tiny_beir

SUBSETS = ["no_near_duplicate", "unseen_documents"]


def give_away(folder, *, queries=(), documents=()):
    """Repeat test queries in training (with an unjudged answer), and train on test documents."""
    rows = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
    texts = {row["_id"]: row["text"] for row in rows}
    with (
        (folder / "queries.jsonl").open("a") as asked,
        (folder / "qrels" / "train.tsv").open("a") as train,
    ):
        for query in queries:
            asked.write(json.dumps({"_id": f"again-{query}", "text": texts[query]}) + "\n")
            train.write(f"again-{query}\t{query.removeprefix('test-')}-0\t1\n")
        for document in documents:
            train.write(f"train-{document.rsplit('-', 1)[0]}\t{document}\t1\n")


@pytest.fixture
def leaking(tmp_path):
    """The test queries of the first two topics are training queries; the third's document is a positive."""
    folder = write_tiny_beir(tmp_path / "leaking")
    topics = asked_of(folder)
    give_away(folder, queries=topics[:2], documents=[f"{topics[2].removeprefix('test-')}-2"])
    return folder


def asked_of(folder):
    lines = (folder / "queries.jsonl").read_text().splitlines()
    return [one for line in lines if (one := json.loads(line)["_id"]).startswith("test-")]


def evaluate(*words):
    return run(["evaluate", "--model", "bm25", *map(str, words)])


def test_one_collection_by_hand(leaking, tmp_path, capsys):
    output, results = tmp_path / "scores.json", tmp_path / "results"
    assert evaluate("--data", leaking, "-o", output, "--results", results) == 0
    scores = json.loads(output.read_text())
    assert list(scores) == [*METRICS, "queries", "documents", "leak_free"] and scores["queries"] == 8
    saved = SystemResult.load(results / "leaking" / "bm25")
    topics = asked_of(leaking)
    for subset, gone in zip(SUBSETS, (topics[:2], topics[2:3]), strict=True):
        kept = [place for place, query in enumerate(saved.query_ids) if query not in gone]
        expected = {metric: pytest.approx(np.mean(saved.per_query[metric][kept])) for metric in METRICS}
        assert scores["leak_free"][subset] == {"queries": 8 - len(gone), **expected}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("leaking/test bm25: ndcg_at_10 ")
    cells = [
        f"{name} {scores['leak_free'][name]['ndcg_at_10']:.4f} ({n})"
        for name, n in zip(SUBSETS, (6, 7), strict=True)
    ]
    assert lines[1:] == [f"leak-free ndcg_at_10: {', '.join(cells)}"]


def test_the_same_again_from_saved_results(leaking, tmp_path, capsys, monkeypatch):
    command = ["--data", leaking, "--results", tmp_path / "results", "-o"]
    assert evaluate(*command, tmp_path / "first.json") == 0
    first = capsys.readouterr().out
    monkeypatch.setattr(beir_runs, "load_place", lambda *_: pytest.fail("the collection was read again"))
    assert evaluate(*command, tmp_path / "again.json") == 0
    assert capsys.readouterr().out == first and len(first.splitlines()) == 2
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "first.json").read_bytes()
    monkeypatch.undo()
    give_away(
        leaking, queries=asked_of(leaking)[3:4]
    )  # other data: neither scores nor subsets are taken over
    assert evaluate(*command, tmp_path / "changed.json") == 0
    assert "no_near_duplicate" in (out := capsys.readouterr().out) and "(5)" in out


def test_the_table_has_columns_only_where_something_leaks(leaking, tmp_path, capsys):
    clean = write_tiny_beir(tmp_path / "clean")
    untrained = write_tiny_beir(tmp_path / "untrained")
    (untrained / "qrels" / "train.tsv").unlink()
    assert evaluate("--data", clean, "--data", untrained, "-o", tmp_path / "without.json") == 0
    assert "duplicate" not in capsys.readouterr().out
    assert "leak_free" not in (tmp_path / "without.json").read_text()
    given = ["--data", clean, "--data", leaking, "--data", untrained]
    assert evaluate(*given, "-o", tmp_path / "table.json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[3:] == ["nDCG@10", "95%", "interval", *SUBSETS, "recall@100"]
    rows = {row["set"]: row for row in json.loads((tmp_path / "table.json").read_text())["rows"]}
    assert "leak_free" not in rows["clean"] and "leak_free" not in rows["untrained"]
    for name, queries in zip(SUBSETS, (6, 7), strict=True):
        means = rows["leaking"]["leak_free"][name]
        assert means["queries"] == queries and f"{means['ndcg_at_10']:.4f} ({queries})" in lines[2]
    assert lines[1].split()[-3:-1] == lines[3].split()[-3:-1] == ["-", "-"]
    assert lines[4].startswith("average of 3") and "(how many)" in lines[5]


def test_a_failed_set_keeps_the_columns_straight(leaking, tmp_path, capsys):
    broken = write_tiny_beir(tmp_path / "broken")
    (broken / "corpus.jsonl").write_text('{"_id": 1')
    assert evaluate("--data", broken, "--data", leaking) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["broken", "failed"] and "(6)" in lines[2]


def test_all_and_none_have_no_score_of_their_own(tmp_path, capsys):
    folder = write_tiny_beir(tmp_path / "given")
    give_away(folder, queries=asked_of(folder))
    assert evaluate("--data", folder, "-o", tmp_path / "scores.json") == 0
    said = "leak-free ndcg_at_10: no_near_duplicate n/a (none), unseen_documents n/a (all)"
    assert capsys.readouterr().out.splitlines()[1] == said
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["leak_free"]["no_near_duplicate"] == {"queries": 0, **dict.fromkeys(METRICS)}
    same = {metric: pytest.approx(scores[metric]) for metric in METRICS}
    assert scores["leak_free"]["unseen_documents"] == {"queries": 8, **same}


def test_the_training_split_itself_is_not_called_leaking(leaking, capsys):
    assert evaluate("--data", leaking, "--split", "train") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_training_split_that_cannot_be_used_does_not_stop_the_official_score(leaking, capsys, monkeypatch):
    from llara_core.errors import DataError

    def unusable(*_arguments):
        raise DataError("judges no known query")

    monkeypatch.setattr(subsets, "leak_free_subsets", unusable)
    assert evaluate("--data", leaking) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1 and "no leak-free scores" in captured.err


def test_subsets_are_found_once_a_collection(leaking, tmp_path, monkeypatch, capsys):
    asked = []
    found = subsets.leak_free_subsets
    monkeypatch.setattr(
        subsets, "leak_free_subsets", lambda *given: asked.append(given[0].name) or found(*given)
    )
    other = shutil.copytree(leaking, tmp_path / "other")
    assert evaluate("--data", leaking, "--data", other) == 0
    assert asked == ["leaking", "other"] and "(6)" in capsys.readouterr().out


def test_means_by_hand():
    result = SystemResult(
        "s", "c", "test", 9, ["a", "b", "c"], {"ndcg_at_10": np.array([1.0, 0.5, 0.0])}, [[]] * 3, [[]] * 3
    )
    everything, two, nothing = np.ones(3, bool), np.array([True, False, True]), np.zeros(3, bool)
    assert leak_free_means(result, {}) == leak_free_means(result, {"x": everything}) == {}
    assert leak_free_means(result, {"x": everything, "y": two, "z": nothing}) == {
        "x": {"queries": 3, "ndcg_at_10": 0.5},
        "y": {"queries": 2, "ndcg_at_10": 0.5},
        "z": {"queries": 0, "ndcg_at_10": None},
    }
    with pytest.raises(ValueError, match="other queries than the 3 judged"):
        leak_free_means(result, {"x": two[:2]})
    assert leak_free_cell({"queries": 2, "ndcg_at_10": 0.5}, "ndcg_at_10", 3) == "0.5000 (2)"
    assert leak_free_cell({"queries": 2}, "ndcg_at_10", 3) == "-"


def test_compare_shows_the_same_means(leaking, tmp_path, capsys):
    results, scores = tmp_path / "results", tmp_path / "scores.json"
    for name in ("first", "second"):
        assert evaluate("--data", leaking, "--results", results, "--name", name, "-o", scores) == 0
    capsys.readouterr()
    page, record = tmp_path / "page.html", tmp_path / "record.json"
    assert run(["compare", str(results), "--data", str(leaking), "-o", str(page), "--json", str(record)]) == 0
    official, (entry,) = json.loads(scores.read_text()), json.loads(record.read_text())["collections"]
    expected = {name: means["ndcg_at_10"] for name, means in official["leak_free"].items()}
    assert [(one["name"], one["queries"]) for one in entry["leak_free"]] == list(
        zip(SUBSETS, (6, 7), strict=True)
    )
    for one in entry["leak_free"]:
        assert one["systems"] == pytest.approx(dict.fromkeys(("first", "second"), expected[one["name"]]))
    cells = [f"{official['ndcg_at_10']:.4f} (8)"]
    cells += [f"{expected[name]:.4f} ({n})" for name, n in zip(SUBSETS, (6, 7), strict=True)]
    lines, written = capsys.readouterr().out.splitlines(), page.read_text()
    assert sum(line.split()[1:] == ["second", *" ".join(cells).split()] for line in lines) == 1
    assert "Leak-free means in numbers" in written and all(cell in written for cell in cells)


@pytest.mark.parametrize("with_data", [False, True])
def test_compare_says_nothing_where_nothing_is_known_or_leaks(leaking, tmp_path, capsys, with_data):
    data = write_tiny_beir(tmp_path / "clean") if with_data else leaking
    for name in ("first", "second"):
        assert evaluate("--data", data, "--results", tmp_path / "results", "--name", name) == 0
    capsys.readouterr()
    given = ["--data", str(data)] if with_data else []
    page, record = tmp_path / "page.html", tmp_path / "record.json"
    command = ["compare", str(tmp_path / "results"), *given, "-o", str(page), "--json", str(record)]
    assert run(command) == 0
    assert json.loads(record.read_text())["collections"][0]["leak_free"] == []
    assert "Leak-free" not in page.read_text() and "duplicate" not in capsys.readouterr().out


def test_subsets_follow_the_order_of_the_results_queries(leaking):
    """Compared results are put into one order, which need not be that of the queries file."""
    from llara_core.config import CollectionSettings
    from llara_core.data.formats import load_collection

    collection = load_collection(CollectionSettings(source=str(leaking)))
    asked = asked_of(leaking)[::-1]
    result = SystemResult("s", "leaking", "test", 24, asked, {}, [[]] * 8, [[]] * 8)
    marks = subsets.judged_subsets(collection, result)
    assert np.flatnonzero(~marks["no_near_duplicate"]).tolist() == [6, 7]
    assert np.flatnonzero(~marks["unseen_documents"]).tolist() == [5]
