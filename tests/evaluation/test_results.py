"""Results on disk, and in MTEB's shape."""

from __future__ import annotations

import json

import numpy as np
import pytest

from llara_core.errors import DataError
from llara_core.evaluation.beir import Bm25System, beir_metrics, evaluate_system
from llara_core.evaluation.mteb_json import mteb_json
from llara_core.evaluation.results import SystemResult
from tests.oracles.tiny_collection import collection


def judged(metrics=("ndcg_at_10",), **protocol):
    tiny = collection(
        {f"d{i}": f"word{i} common" for i in range(9)},
        {f"q{i}": f"word{i}" for i in range(9)},
        {"test": {f"q{i}": {f"d{i}": 1} for i in range(9)}},
    )
    return evaluate_system(tiny, "test", Bm25System(tiny), metrics=metrics, protocol=protocol)


def test_every_metric_and_the_protocol_come_back(tmp_path):
    result = judged(("ndcg_at_10", "hole_at_3", "precision_at_1"), identical_ids="keep", note="x")
    again = SystemResult.load(result.save(tmp_path / "r"))
    assert list(again.per_query) == ["ndcg_at_10", "hole_at_3", "precision_at_1"]
    assert again.protocol == result.protocol
    assert again.protocol == {
        "split": "test", "depth": 100, "identical_ids": "keep", "relevance_cut": 1, "note": "x",
    }  # fmt: skip
    assert again.to_json() == result.to_json()


def test_results_of_an_older_version_have_no_protocol(tmp_path):
    folder = judged().save(tmp_path / "r")
    facts = json.loads((folder / "result.json").read_text())
    del facts["protocol"]
    (folder / "result.json").write_text(json.dumps(facts))
    assert SystemResult.load(folder).protocol == {}


def test_many_queries_are_written_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("llara_core.evaluation.results._QUERIES", 2)
    result = judged()
    again = SystemResult.load(result.save(tmp_path / "r", run=True))
    assert list(map(list, again.found)) == list(map(list, result.found))
    for first, second in zip(again.scores, result.scores, strict=True):
        np.testing.assert_array_equal(first, second)
    lines = (tmp_path / "r" / "run.trec").read_text().splitlines()
    assert len(lines) == 9 and lines[0].split()[:4] == ["q0", "Q0", "d0", "1"]


def test_queries_without_results_survive(tmp_path):
    values = {"ndcg_at_10": np.zeros(2)}
    empty = SystemResult("m", "c", "test", 3, ["a", "b"], values, [[], ["d"]], [[], [0.5]])
    again = SystemResult.load(empty.save(tmp_path / "r"))
    assert again.found == [[], ["d"]] and again.scores == [[], [0.5]]
    assert again.top(1, 5) == [("d", 0.5)] and isinstance(again.top(1, 5)[0][1], float)


def test_extra_files_stand_beside_and_nothing_is_left_when_one_fails(tmp_path):
    folder = judged().save(tmp_path / "r", extra={"mteb.json": {"a": 1}})
    assert json.loads((folder / "mteb.json").read_text()) == {"a": 1}
    with pytest.raises(TypeError):
        judged().save(tmp_path / "bad", extra={"x.json": {1, 2}})
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match="holds something else"):
        judged().save(tmp_path / "mine")


def test_mteb_shape():
    result = judged(beir_metrics(100), mteb_task="SciFact", data="abc")
    shape = mteb_json(result, seconds=1.5)
    assert (shape["task_name"], shape["dataset_revision"], shape["evaluation_time"]) == (
        "SciFact",
        "abc",
        1.5,
    )
    (scores,) = shape["scores"]["test"]
    assert scores["main_score"] == scores["ndcg_at_10"] == result.means["ndcg_at_10"]
    assert scores["hf_subset"] == "default" and scores["languages"] == ["eng-Latn"]
    assert {f"map_at_{k}" for k in (1, 3, 5, 10, 100)} <= set(scores) and "hole_at_10" not in scores
    assert mteb_json(judged())["task_name"] == "tiny"
    with pytest.raises(ValueError, match="main score is ndcg_at_10"):
        mteb_json(judged(("map_at_100",)))


@pytest.mark.slow
def test_mteb_reads_the_file(tmp_path):
    """Slow for the import alone."""
    mteb = pytest.importorskip("mteb", reason="comes with the extra dev")
    result = judged(beir_metrics(100), mteb_task="SciFact", data="abc")
    folder = result.save(tmp_path / "r", extra={"mteb.json": mteb_json(result, seconds=2.0)})
    read = mteb.TaskResult.from_disk(folder / "mteb.json", load_historic_data=False)
    assert read.get_score() == result.means["ndcg_at_10"]
    assert (read.task_name, read.eval_splits, read.languages) == ("SciFact", ["test"], ["eng"])
    assert mteb.TaskResult.from_disk(folder / "mteb.json").main_score == result.means["ndcg_at_10"]
