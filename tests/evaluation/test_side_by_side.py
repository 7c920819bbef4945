"""Systems side by side: every number against one worked out by hand, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from llara_core.errors import DataError
from llara_core.evaluation.side_by_side import check_record, compare_systems
from llara_core.evaluation.side_by_side_average import stratified_bootstrap
from llara_core.evaluation.significance import (
    bootstrap_interval,
    effect_size,
    paired_bootstrap,
    paired_randomisation,
    queries_needed,
)
from tests.oracles.saved_results import PROTOCOL, result
from tests.oracles.tiny_collection import collection

OLD, NEW = [0.2, 0.4, 0.5, 1.0], [0.6, 0.4, 0.4, 1.0]


def tiny(texts: list[str] | None = None, name: str = "tiny") -> Any:
    texts = texts or [f"query number {place}" for place in range(4)]
    corpus = {f"d{place}": f"passage {place}" for place in range(6)}
    queries = {f"q{place}": text for place, text in enumerate(texts)}
    qrels = {f"q{place}": {f"d{place}": 1} for place in range(len(texts))}
    return collection(corpus, queries, {"test": qrels}, name)


def test_a_pair_by_hand() -> None:
    record = compare_systems({"tiny": [result("old", OLD), result("new", NEW)]})
    (entry,) = record["collections"]
    (pair,) = entry["pairs"]
    assert (record["baseline"], record["systems"], record["metric"]) == ("old", ["old", "new"], "ndcg_at_10")
    assert entry["systems"]["old"]["mean"] == pytest.approx(0.525)
    assert entry["systems"]["new"]["mean"] == pytest.approx(0.6)
    assert (pair["system"], pair["baseline"]) == ("new", "old")
    assert pair["difference"] == pytest.approx(0.075)  # (0.4 + 0 - 0.1 + 0) / 4
    assert (pair["wins"], pair["losses"], pair["ties"]) == (1, 1, 2)
    # Of the four sign patterns of 0.4 and -0.1 two reach |0.3|: +0.4 - 0.1 and -0.4 + 0.1; the sums of
    # equal signs reach it too.
    assert pair["p_value"] == pair["p_holm"] == 1.0
    # Squared distances from 0.075: 0.105625, 0.005625, 0.030625, 0.005625; over 3: 0.0491667.
    assert pair["effect_size"] == pytest.approx(0.075 / np.sqrt(0.1475 / 3))
    assert record["average"] is None and record["notes"] == []


def test_statistics_are_those_of_the_significance_module() -> None:
    rng = np.random.default_rng(0)
    old, new = rng.random(40), rng.random(40)
    record = compare_systems({"tiny": [result("old", old), result("new", new)]}, seed=3)
    (entry,), (pair,) = record["collections"], record["collections"][0]["pairs"]
    assert entry["systems"]["new"]["interval"] == list(bootstrap_interval(new, seed=3))
    assert pair["interval"] == list(paired_bootstrap(new, old, seed=3))
    assert pair["p_value"] == paired_randomisation(new, old, seed=3)
    assert pair["effect_size"] == effect_size(new, old)
    assert pair["queries_needed"] == queries_needed(new, old, pair["difference"])


def test_holm_over_all_collections_and_pairs() -> None:
    # Six queries that all rise: 2 of 64 sign patterns, p = 1/32; five: 1/16; four: 1/8; no change: 1.
    def pair_of(risen: int) -> tuple[Any, Any]:
        zero = np.zeros(6)
        return zero, np.where(np.arange(6) < risen, 0.5, 0.0)

    results = {}
    for name, (risen, other) in {"one": (6, 5), "two": (4, 0)}.items():
        zero, first = pair_of(risen)
        results[name] = [
            result("old", zero, name), result("a", first, name), result("b", pair_of(other)[1], name),
        ]  # fmt: skip
    record = compare_systems(results)
    found = {
        (entry["name"], pair["system"]): (pair["p_value"], pair["p_holm"])
        for entry in record["collections"]
        for pair in entry["pairs"]
    }
    assert found == {
        ("one", "a"): (1 / 32, 4 / 32),
        ("one", "b"): (2 / 32, 6 / 32),
        ("two", "a"): (4 / 32, 8 / 32),
        ("two", "b"): (1.0, 1.0),
    }


def test_average_counts_each_collection_once() -> None:
    small = [result("old", [0.0, 0.0], "small"), result("new", [1.0, 0.5], "small")]
    large = [result("old", [0.5] * 6, "large"), result("new", [0.5, 0.5, 0.5, 0.5, 0.5, 0.2], "large")]
    average = compare_systems({"small": small, "large": large})["average"]
    (pair,) = average["pairs"]
    assert average["systems"]["old"]["mean"] == pytest.approx(0.25)
    assert pair["difference"] == pytest.approx((0.75 - 0.05) / 2)
    assert (pair["higher"], pair["lower"]) == (1, 1)
    # Signs of 1/4, 0.5/4 and -0.3/12 (each over 2 collections): of eight patterns, only those two reach
    # |0.35| in which the first two agree and the third opposes them, and the two in which all agree.
    assert pair["p_value"] == pytest.approx(4 / 8)
    low, high = pair["interval"]
    assert low <= pair["difference"] <= high


def test_forums_of_one_set_count_once_together() -> None:
    gains = {"scifact": 0.6, "cqadupstack-gis": 0.1, "cqadupstack-unix": 0.3}
    results = {
        name: [result("old", [0.0, 0.0], name), result("new", [gain, gain], name)]
        for name, gain in gains.items()
    }
    average = compare_systems(results)["average"]
    assert average["collections"] == 2
    assert average["pairs"][0]["difference"] == pytest.approx((0.6 + (0.1 + 0.3) / 2) / 2)
    assert average["pairs"][0]["interval"] == pytest.approx([0.4, 0.4])
    assert average["systems"]["new"]["mean"] == pytest.approx(0.4)
    assert average["pairs"][0]["higher"] == 3


def test_stratified_bootstrap_of_one_part_is_the_plain_one() -> None:
    scores = np.random.default_rng(1).random(50)
    assert stratified_bootstrap([scores], np.ones(1), seed=4) == pytest.approx(
        bootstrap_interval(scores, seed=4)
    )


def test_stratified_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(200):
        parts = [rng.normal(0.1, 1.0, 80), rng.normal(0.3, 0.5, 40)]
        low, high = stratified_bootstrap(parts, np.full(2, 0.5), rounds=400, seed=trial)
        inside += low <= 0.2 <= high
    assert 0.88 <= inside / 200 <= 0.99  # three standard errors around 0.94


def test_queries_in_another_order_are_put_in_order() -> None:
    old = result("old", OLD)
    turned = result(
        "new", NEW[::-1], found=[["d3"], ["d2"], ["d1"], ["d0"]], query_ids=["q3", "q2", "q1", "q0"]
    )
    straight = compare_systems({"tiny": [old, result("new", NEW)]}, {"tiny": tiny()})
    assert compare_systems({"tiny": [old, turned]}, {"tiny": tiny()}) == straight


def test_a_chosen_baseline_comes_first_everywhere() -> None:
    results = {
        name: [result("a", OLD, name), result("b", NEW, name), result("c", OLD, name)] for name in ("x", "y")
    }
    results["y"].reverse()
    record = compare_systems(results, baseline="b")
    assert record["systems"] == ["b", "a", "c"]
    for entry in record["collections"]:
        assert list(entry["systems"]) == ["b", "a", "c"]
        assert [pair["baseline"] for pair in entry["pairs"]] == ["b", "b"]


def test_queries_that_moved_most_with_what_each_found() -> None:
    old = result("old", OLD, found=[["d5", "d0"], ["d1"], ["d2"], ["d3"]])
    new = result("new", NEW, found=[["d0", "d5"], ["d1"], ["d4"], ["d3"]])
    (moved,) = compare_systems({"tiny": [old, new]}, {"tiny": tiny()})["collections"][0]["moved"]
    (up,), (down,) = moved["up"], moved["down"]
    assert (up["query_id"], up["text"], up["scores"]) == ("q0", "query number 0", {"old": 0.2, "new": 0.6})
    assert up["difference"] == pytest.approx(0.4) and down["difference"] == pytest.approx(-0.1)
    assert [(hit["id"], hit["grade"], hit["snippet"]) for hit in up["found"]["new"]] == [
        ("d0", 1, "passage 0"), ("d5", None, "passage 5"),
    ]  # fmt: skip
    assert up["relevant"][0]["ranks"] == {"old": 2, "new": 1}
    assert up["first_relevant"] == {"old": 2, "new": 1}
    assert down["first_relevant"] == {"old": 1, "new": None}
    (bare,) = compare_systems({"tiny": [old, new]})["collections"][0]["moved"]
    assert (bare["up"][0]["query_id"], bare["up"][0]["text"]) == ("q0", None)
    assert [hit["id"] for hit in bare["up"][0]["found"]["old"]] == ["d5", "d0"]
    assert bare["up"][0]["relevant"] == [] and bare["up"][0]["first_relevant"] == {}


def test_groups_hold_their_own_means_and_differences() -> None:
    texts = ["why so"] * 20 + ["the sea is blue today"] * 30
    old, new = np.zeros(50), np.r_[np.full(20, 0.5), np.full(30, -0.0)]
    (entry,) = compare_systems({"tiny": [result("old", old), result("new", new)]}, {"tiny": tiny(texts)})[
        "collections"
    ]
    for groups, names in ((entry["by_length"], ["2 words", "5 words"]),
                          (entry["by_type"], ["why", "sentence or claim"])):  # fmt: skip
        assert [(group["name"], group["queries"]) for group in groups] == list(
            zip(names, (20, 30), strict=True)
        )
        assert [group["pairs"][0]["difference"] for group in groups] == [0.5, 0.0]
        assert [group["systems"]["new"]["mean"] for group in groups] == [0.5, 0.0]


def test_an_unfair_pool_is_counted_and_told() -> None:
    # Judged for some query: d0 to d3. The new system's finds are half of them unjudged.
    old = result("old", OLD, found=[["d0", "d1"]] * 4)
    new = result("new", NEW, found=[[*(f"x{place}" for place in range(5)), "d0", "d1", "d2", "d3"]] * 4)
    record = compare_systems({"tiny": [old, new]}, {"tiny": tiny()})
    systems = record["collections"][0]["systems"]
    assert systems["old"]["hole_at_10"] == 0.0
    assert systems["new"]["hole_at_10"] == pytest.approx(0.5)
    assert any("50% were never judged" in note and "new" in note for note in record["notes"])
    without = compare_systems({"tiny": [old, new]})
    assert without["collections"][0]["systems"]["new"]["hole_at_10"] is None and without["notes"] == []
    saved = [result("old", OLD, metrics={"hole_at_10": [0.25] * 4}), result("new", NEW)]
    assert compare_systems({"tiny": saved})["collections"][0]["systems"]["old"]["hole_at_10"] == 0.25


def test_the_record_is_json_and_the_same_for_the_same_seed() -> None:
    results = {"tiny": [result("old", [0.5] * 30), result("new", [0.75] * 30)]}
    record = compare_systems(results, seed=1)
    assert json.loads(json.dumps(record, allow_nan=False)) == record == compare_systems(results, seed=1)
    # Every query moved alike: the effect has no size, and few queries show it.
    assert record["collections"][0]["pairs"][0]["effect_size"] is None
    assert record["collections"][0]["pairs"][0]["queries_needed"] < 30


def test_one_query_and_equal_systems() -> None:
    (pair,) = compare_systems({"tiny": [result("a", [0.5]), result("b", [1.0])]})["collections"][0]["pairs"]
    assert (pair["effect_size"], pair["queries_needed"], pair["p_value"]) == (None, None, 1.0)
    (pair,) = compare_systems({"tiny": [result("a", OLD), result("b", OLD)]})["collections"][0]["pairs"]
    assert (pair["difference"], pair["effect_size"], pair["queries_needed"]) == (0.0, 0.0, None)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (result("new", NEW, query_ids=["q0", "q1", "q2", "zz"]),
         "different queries .*only 'old' has 'q3'; only 'new' has 'zz'"),
        (result("new", NEW[:3]), "only 'old' has 'q3'; only 'new' has none"),
        (result("new", NEW, split="dev"), "different splits: 'test' and 'dev'"),
        (result("new", NEW, documents=99), "different corpora: 100 and 99 documents"),
        (result("new", NEW, protocol=PROTOCOL | {"identical_ids": "drop"}),
         "different protocols: identical_ids is 'keep' and 'drop'"),
        (result("new", NEW, protocol=PROTOCOL | {"relevance_cut": 2}), "relevance_cut is 1 and 2"),
        (result("new", NEW, protocol=PROTOCOL | {"depth": 9}), "depth is 100 and 9"),
        (result("old", NEW), "two results share the name 'old'"),
        (result("new", NEW, per_query={"mrr_at_10": np.ones(4)}), "not scored by ndcg_at_10 .it has mrr"),
        (result("new", NEW, query_ids=["q0", "q0", "q1", "q2"]), "stands twice"),
    ],
)  # fmt: skip
def test_what_is_not_alike_is_refused(other: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        compare_systems({"tiny": [result("old", OLD), other]})


def test_what_does_not_change_the_question_is_accepted() -> None:
    other = result("new", NEW, protocol=PROTOCOL | {"depth": 1000, "model": "abc", "metrics": ["x"]})
    first = result("old", OLD, protocol=PROTOCOL | {"model": "bm25"})
    (entry,) = compare_systems({"tiny": [first, other]})["collections"]
    assert entry["protocol"] == PROTOCOL
    assert (entry["systems"]["old"]["model"], entry["systems"]["new"]["model"]) == ("bm25", "abc")


def test_a_protocol_that_was_not_recorded_is_told() -> None:
    record = compare_systems({"tiny": [result("old", OLD), result("new", NEW, protocol={})]})
    assert record["notes"] == [
        "tiny: the result of new does not record its split, depth, identical ids, relevance cut; that it is "
        "the same as the others' is taken on trust"
    ]
    old = result("old", OLD, protocol=PROTOCOL | {"data": "abc"})
    (note,) = compare_systems({"tiny": [old, result("new", NEW)]})["notes"]
    assert "new does not record its data;" in note
    assert compare_systems({"tiny": [result("old", OLD, protocol={}), result("new", NEW, protocol={})]})[
        "notes"
    ] == ["tiny: no result records its protocol; that it was the same is taken on trust"]


def test_other_refusals() -> None:
    both = [result("old", OLD), result("new", NEW)]
    with pytest.raises(DataError, match="no result was given"):
        compare_systems({})
    with pytest.raises(DataError, match="at least two systems, got old"):
        compare_systems({"tiny": both[:1]})
    with pytest.raises(DataError, match="no system is called 'bm25'; the results have old, new"):
        compare_systems({"tiny": both}, baseline="bm25")
    with pytest.raises(DataError, match="new, third is missing on one of them"):
        compare_systems({"tiny": both, "other": [result("old", OLD), result("third", OLD)]})
    with pytest.raises(DataError, match="no result is on the collection 'else'"):
        compare_systems({"tiny": both}, {"else": tiny()})
    with pytest.raises(DataError, match="'tiny' lacks: 'q3'"):
        compare_systems({"tiny": both}, {"tiny": tiny(["a", "b", "c"])})
    with pytest.raises(DataError, match="not a score"):
        compare_systems({"tiny": both}, metric="hole_at_10")
    with pytest.raises(DataError, match="got kind None, schema 2"):
        check_record({"schema": 2})
