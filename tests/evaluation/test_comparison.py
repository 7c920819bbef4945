from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from llara_core.errors import DataError
from llara_core.evaluation.comparison import Comparison, compare, length_histogram
from llara_core.evaluation.metrics import METRICS
from llara_core.evaluation.results import SystemResult
from llara_core.evaluation.significance import bootstrap_interval, paired_randomisation
from tests.oracles.tiny_collection import collection

COUNT = 25


def tiny():
    corpus = {f"d{i}": f"text of document {i} " + "long " * 100 for i in range(COUNT)}
    queries = {f"q{i}": f"question {i}" for i in range(COUNT)}
    return collection(corpus, queries, {"test": {f"q{i}": {f"d{i}": 1} for i in range(COUNT)}})


def result(name, scores, found=None):
    scores = np.asarray(scores, np.float64)
    found = found or [[f"d{i}"] if score else [f"d{(i + 1) % COUNT}"] for i, score in enumerate(scores)]
    return SystemResult(
        name=name,
        collection="tiny",
        split="test",
        documents=COUNT,
        query_ids=[f"q{i}" for i in range(len(scores))],
        per_query=dict.fromkeys(METRICS, scores),
        found=found,
        scores=[[1.0 - 0.1 * rank for rank in range(len(ids))] for ids in found],
    )


def systems():
    rng = np.random.default_rng(0)
    bm25 = rng.random(COUNT)
    return [
        result("bm25", bm25),
        result("base", bm25 * 0.1),
        result("finetuned", np.clip(bm25 + 0.1, 0, 1)),
        result("finetuned_without_adaptation", bm25 * 0.9),
    ]


def test_differences_intervals_and_p_values():
    results = systems()
    chosen = np.arange(COUNT) % 2 == 0
    comparison = compare(tiny(), results, subsets={"unseen_documents": chosen})
    for name, marks in (("all", np.ones(COUNT, bool)), ("unseen_documents", chosen)):
        rows = {(row["system"], row["metric"]): row for row in comparison.table(name)}
        assert len(rows) == len(results) * len(METRICS)
        ours, bm25 = (results[i].per_query["ndcg_at_10"][marks] for i in (2, 0))
        row = rows["finetuned", "ndcg_at_10"]
        assert row["value"] == pytest.approx(ours.mean())
        assert row["versus_bm25"] == pytest.approx(ours.mean() - bm25.mean())
        assert row["p_bm25"] == paired_randomisation(ours, bm25)
        arm = results[3].per_query["ndcg_at_10"][marks]
        assert row["versus_without_adaptation"] == pytest.approx(ours.mean() - arm.mean())
        assert row["p_without_adaptation"] == paired_randomisation(ours, arm)
        assert rows["bm25", "map_at_100"]["versus_bm25"] is None
        assert rows["finetuned_without_adaptation", "map_at_100"]["p_without_adaptation"] is None
        whole = next(one for one in comparison.subsets if one["name"] == name)
        assert whole["queries"] == marks.sum()
        assert whole["systems"]["finetuned"]["ndcg_at_10"]["interval"] == list(bootstrap_interval(ours))
    assert comparison.metrics_of("base")["mrr_at_10"] == pytest.approx(results[1].means["mrr_at_10"])


def test_an_empty_subset_and_absent_arms():
    comparison = compare(tiny(), [result("mine", np.ones(COUNT))], subsets={"none": np.zeros(COUNT, bool)})
    assert comparison.table("none") == []
    assert all(row["versus_bm25"] is row["p_without_adaptation"] is None for row in comparison.table())
    assert comparison.examples_of == "mine" and comparison.best_queries[0]["bm25_ndcg_at_10"] is None
    with pytest.raises(DataError, match="no subset 'other'"):
        comparison.table("other")
    with pytest.raises(DataError, match="no system 'bm25'"):
        comparison.metrics_of("bm25")


def test_json_and_back(tmp_path):
    comparison = compare(
        tiny(),
        systems(),
        histories={"adapt": [{"step": 1, "loss": 3.5}]},
        notes=["a remark"],
    )
    record = comparison.to_dict()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert Comparison.from_dict(record) == comparison
    assert Comparison.load(comparison.save(tmp_path / "comparison.json")) == comparison
    named = {one.name for one in dataclasses.fields(Comparison)} | {"schema"}
    assert set(record) == named
    assert all(f'"{name}"' in (Comparison.__doc__ or "") for name in named)
    assert record["histories"] == {"adapt": [{"step": 1, "loss": 3.5}]} and record["notes"] == ["a remark"]
    with pytest.raises(DataError, match="schema 0"):
        Comparison.from_dict({**record, "schema": 0})
    with pytest.raises(DataError, match="lacks query_ids"):
        Comparison.from_dict({key: value for key, value in record.items() if key != "query_ids"})
    with pytest.raises(DataError, match="not a saved comparison"):
        Comparison.load(tmp_path / "absent.json")


def test_best_and_worst_queries():
    scores = np.zeros(COUNT)
    scores[:12] = np.linspace(1, 0.5, 12)
    bm25 = np.zeros(COUNT)
    bm25[[20, 22]] = 0.9, 1.0  # answered by BM25 only: the most telling failures
    found = [[f"d{i}", "d3"] if i < 12 else ["d3", "d4", "d5", "d6", f"d{i}"] for i in range(COUNT)]
    comparison = compare(tiny(), [result("bm25", bm25), result("finetuned", scores, found)])
    assert [one["query_id"] for one in comparison.best_queries] == [f"q{i}" for i in range(10)]
    assert [one["query_id"] for one in comparison.worst_queries[:3]] == ["q22", "q20", "q12"]
    assert len(comparison.worst_queries) == 10
    worst = comparison.worst_queries[0]
    assert worst["text"] == "question 22" and worst["bm25_ndcg_at_10"] == 1.0 and worst["ndcg_at_10"] == 0.0
    assert worst["first_relevant_rank"] == 5
    assert [(one["rank"], one["id"], one["grade"]) for one in worst["found"]] == [
        (1, "d3", None),
        (2, "d4", None),
        (3, "d5", None),
    ]
    assert worst["relevant"][0]["id"] == "d22" and worst["relevant"][0]["rank"] == 5
    assert comparison.best_queries[0]["found"][0]["grade"] == 1
    snippet = worst["found"][0]["snippet"]
    assert snippet.startswith("text of document 3 long") and snippet.endswith(" …") and len(snippet) <= 402


def test_no_query_is_both_best_and_worst():
    few = [result("finetuned", [1.0, 0.5, 0.0])]
    comparison = compare(tiny(), few)
    assert [one["query_id"] for one in comparison.best_queries] == ["q0", "q1"]
    assert [one["query_id"] for one in comparison.worst_queries] == ["q2"]


def test_length_histogram():
    histogram = length_histogram("passages", [0, 5, 5, 59, 60], "tokens", limit=64)
    assert sum(histogram["counts"]) == 5 and len(histogram["edges"]) == len(histogram["counts"]) + 1
    assert len(histogram["counts"]) <= 31 and histogram["edges"][1] == 3.0
    assert histogram["counts"][0] == 1 and histogram["counts"][1] == 2
    assert histogram["unit"] == "tokens" and histogram["limit"] == 64
    assert length_histogram("none", [])["counts"] == [0]
    assert length_histogram("same", [1, 1])["counts"] == [0, 2]
    default = compare(tiny(), systems()).length_histograms
    assert [(one["name"], sum(one["counts"])) for one in default] == [("passages", COUNT), ("queries", COUNT)]


def test_results_that_cannot_be_compared():
    with pytest.raises(DataError, match="nothing to compare"):
        compare(tiny(), [])
    with pytest.raises(DataError, match="share a name"):
        compare(tiny(), [result("bm25", np.ones(3))] * 2)
    with pytest.raises(DataError, match="other queries"):
        compare(tiny(), [result("bm25", np.ones(3)), result("base", np.ones(4))])
