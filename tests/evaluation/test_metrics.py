from __future__ import annotations

import math
import random

import numpy as np
import pytest

from llara_core.evaluation.metrics import (
    METRICS,
    PADDING,
    evaluate_rows,
    evaluate_run,
    grades_of,
    means,
    trec_order,
)
from tests.oracles.metric_oracle import oracle

ALL = tuple(
    f"{kind}_at_{k}"
    for kind in ("ndcg", "mrr", "recall", "precision", "map", "r_cap", "hole")
    for k in (1, 3, 10, 100, 1000)
)


def test_hand_computed_values():
    qrels = {"q": {"a": 2, "b": 1, "c": 1, "no": 0}, "other": {"y": 1}}
    run = {"q": {"x": 9.0, "a": 8.0, "y": 7.0, "b": 6.0, "no": 5.0}}
    names = [
        *METRICS,
        "precision_at_5",
        "precision_at_8",
        "r_cap_at_2",
        "r_cap_at_4",
        "hole_at_2",
        "hole_at_8",
    ]
    ours = {name: values[0] for name, values in evaluate_run(qrels, run, names).items()}
    ideal = 2 + 1 / math.log2(3) + 1 / 2
    assert ours == pytest.approx(
        {
            "ndcg_at_10": (2 / math.log2(3) + 1 / math.log2(5)) / ideal,
            "mrr_at_10": 1 / 2,
            "recall_at_100": 2 / 3,
            "map_at_100": (1 / 2 + 2 / 4) / 3,
            "precision_at_5": 2 / 5,
            "precision_at_8": 2 / 8,  # over k, however few were found
            "r_cap_at_2": 1 / 2,  # two places, three relevant documents
            "r_cap_at_4": 2 / 3,
            "hole_at_2": 1 / 2,  # x; y is judged, if for another query
            "hole_at_8": 1 / 8,
        },
        abs=1e-15,
    )


def test_ties_go_to_the_greater_id_as_a_string():
    assert evaluate_run({"q": {"9": 1}}, {"q": {"10": 1.0, "9": 1.0}})["mrr_at_10"][0] == 1.0
    assert evaluate_run({"q": {"10": 1}}, {"q": {"10": 1.0, "9": 1.0}})["mrr_at_10"][0] == 0.5


@pytest.mark.parametrize("last", [99, 100])
def test_a_tie_across_the_cut_off_is_seen(last):
    """`last` results score more; two tie for the next rank, and only the greater id can be the 100th."""
    above = {f"m{i:03}": 2.0 for i in range(last)}
    run = {"q": above | {"a": 1.0, "z": 1.0}}
    expected = {"a": 0.0, "z": 1.0 if last == 99 else 0.0}
    for document, recall in expected.items():
        assert evaluate_run({"q": {document: 1}}, run)["recall_at_100"][0] == recall


def test_equal_scores_of_either_sign_of_zero_and_without_end():
    run = {"q": {"b": 0.0, "a": -0.0, "d": -math.inf, "c": math.nan}}
    values = evaluate_run({"q": {"a": 1}}, run)["mrr_at_10"]
    assert values[0] == 1 / 2
    assert evaluate_run({"q": {"c": 1}}, run)["mrr_at_10"][0] == 1 / 4
    assert evaluate_run({"q": {"c": 1}}, {"q": {"c": math.inf, "z": 1e300}})["mrr_at_10"][0] == 1 / 2


def test_a_result_of_minus_infinity_is_found_and_padding_is_not():
    qrels = {"q": {"a": 1}, "long": {"a": 1}}
    run = {"q": {"a": -math.inf, "b": math.nan}, "long": {f"x{i}": float(i) for i in range(5)}}
    rows = np.array([[0, 1, PADDING, PADDING, PADDING], [2, 3, 4, 5, 6]])
    scores = np.array([[-math.inf, math.nan, 9, -math.inf, math.nan], range(5)], np.float32)
    names = ["a", "b", *(f"x{i}" for i in range(5))]
    by_rows = evaluate_rows(qrels, list(qrels), names, rows, scores, ALL)
    for values in (evaluate_run(qrels, run, ALL), by_rows):
        assert values["mrr_at_10"].tolist() == [1 / 2, 0.0]  # b ties, and b > a
        assert values["hole_at_10"].tolist() == [1 / 10, 5 / 10]


def test_cut_offs():
    run = {"q": {f"d{i:03}": float(-i) for i in range(150)}}
    at_eleven = evaluate_run({"q": {"d010": 1}}, run)
    assert at_eleven["ndcg_at_10"][0] == at_eleven["mrr_at_10"][0] == 0.0
    assert at_eleven["map_at_100"][0] == pytest.approx(1 / 11)
    assert evaluate_run({"q": {"d099": 1}}, run)["recall_at_100"][0] == 1.0
    assert evaluate_run({"q": {"d100": 1}}, run)["recall_at_100"][0] == 0.0
    assert evaluate_run({"q": {"d100": 1}}, run, ["recall_at_101"])["recall_at_101"][0] == 1.0


def test_queries_without_results_or_relevant_documents_count_as_zero():
    qrels = {"none": {"a": 1}, "empty": {"a": 1}, "irrelevant": {"a": 0, "b": -1}, "good": {"a": 1}}
    run = {"empty": {}, "irrelevant": {"a": 1.0, "b": 2.0}, "good": {"a": 1.0}, "unjudged": {"a": 1.0}}
    for values in evaluate_run(qrels, run).values():
        np.testing.assert_array_equal(values, [0, 0, 0, 1])
    assert means(evaluate_run(qrels, run)) == dict.fromkeys(METRICS, 0.25)
    assert means(evaluate_run({}, {}, ALL)) == dict.fromkeys(ALL, 0.0)
    assert evaluate_run({"q": {"a": 1}}, {}, ["hole_at_5"])["hole_at_5"].tolist() == [0.0]
    assert evaluate_run({"q": {}}, {"q": {"a": 1.0}}, ALL)["hole_at_1"].tolist() == [1.0]


def test_a_query_that_nobody_judged_has_holes_only():
    rows, scores = np.array([[0, 1]]), np.array([[2, 1]], np.float32)
    values = evaluate_rows({"q": {"b": 1}}, ["unknown"], ["a", "b"], rows, scores, ALL)
    assert values["hole_at_1"].tolist() == [1.0] and values["hole_at_3"].tolist() == [1 / 3]
    assert all(not found.any() for name, found in values.items() if not name.startswith("hole"))


def random_rows(seed):
    rng = np.random.default_rng(seed)
    corpus = [f"d{i}" for i in range(50)]
    rows = np.stack([rng.permutation(50)[:20] for _ in range(8)])
    scores = rng.integers(0, 4, rows.shape).astype(np.float32)
    qrels = {
        f"q{i}": {corpus[j]: int(rng.integers(-1, 3)) for j in rng.permutation(50)[:5]} for i in range(8)
    }
    return corpus, rows, scores, qrels | {"q8": {"gone": 1}}


def test_rows_and_dictionaries_agree_and_padding_is_nobody():
    corpus, rows, scores, qrels = random_rows(0)
    run = {f"q{i}": {corpus[r]: float(s) for r, s in zip(rows[i], scores[i], strict=True)} for i in range(8)}
    padded_rows = np.full((9, 25), PADDING)
    padded_rows[:8, 5:] = rows
    padded_scores = np.full((9, 25), 99, np.float32)
    padded_scores[:8, 5:] = scores
    one = evaluate_run(qrels, run, ALL)
    other = evaluate_rows(qrels, list(qrels), corpus, padded_rows, padded_scores, ALL)
    assert list(one) == list(other) == list(ALL)
    for metric in ALL:
        np.testing.assert_array_equal(one[metric], other[metric])
    assert means(one)["recall_at_100"] > 0 and means(one)["hole_at_3"] > 0


@pytest.mark.parametrize("block", [1, 40, 1 << 22])
def test_blocks_of_queries_change_nothing(block, monkeypatch):
    corpus, rows, scores, qrels = random_rows(1)
    run = {f"q{i}": {corpus[r]: float(s) for r, s in zip(rows[i], scores[i], strict=True)} for i in range(8)}
    before = evaluate_run(qrels, run, ALL), evaluate_rows(qrels, list(qrels)[:8], corpus, rows, scores, ALL)
    monkeypatch.setattr("llara_core.evaluation.metrics._BLOCK", block)
    after = evaluate_run(qrels, run, ALL), evaluate_rows(qrels, list(qrels)[:8], corpus, rows, scores, ALL)
    for one, other in zip(before, after, strict=True):
        for metric in ALL:
            np.testing.assert_array_equal(one[metric], other[metric])


@pytest.mark.parametrize(
    "name",
    [
        "ndcg@10",
        "ndcg_at_",
        "ndcg_at_0",
        "ndcg_at_-1",
        "ndcg_at_\N{ARABIC-INDIC DIGIT ONE}",
        "map",
        "Recall_at_5",
        "mrr_at_5 ",
    ],
)
def test_unknown_names_are_refused(name):
    with pytest.raises(ValueError, match=r"unknown metric .*expected ndcg_at_K"):
        evaluate_run({"q": {"a": 1}}, {}, ["ndcg_at_10", name])
    with pytest.raises(ValueError, match="unknown metric"):
        evaluate_rows({}, [], [], np.zeros((0, 0), np.int64), np.zeros((0, 0), np.float32), [name])


def test_a_metric_does_not_depend_on_those_beside_it():
    corpus, rows, scores, qrels = random_rows(2)
    together = evaluate_rows(qrels, list(qrels)[:8], corpus, rows, scores, ALL)
    for metric in ALL:
        alone = evaluate_rows(qrels, list(qrels)[:8], corpus, rows, scores, [metric])
        np.testing.assert_array_equal(alone[metric], together[metric])


def test_order_is_independent_of_the_columns():
    rows = np.array([[0, PADDING, 1, 2, 3]])
    scores = np.array([[1, 9, 1, 2, 1]], np.float32)
    ordered, values = trec_order(["b", "d", "a", "c"], rows, scores)
    assert ordered.tolist() == [[2, 1, 3, 0, PADDING]]
    assert values.tolist() == [[2, 1, 1, 1, -math.inf]]
    rng = np.random.default_rng(3)
    scores = rng.choice(np.array([-2.5, -1, -0.0, 0.0, 1e-30, 3], np.float32), (20, 30))
    rows = np.stack([rng.permutation(30) for _ in range(20)])
    names = [str(i) for i in rng.permutation(30)]
    ordered, values = trec_order(names, rows, scores)
    for place in range(20):
        pairs = sorted(
            zip(scores[place].tolist(), (names[r] for r in rows[place]), strict=True), reverse=True
        )
        assert [names[row] for row in ordered[place]] == [name for _, name in pairs]
        assert values[place].tolist() == [score for score, _ in pairs]


def test_grades_of_found_documents():
    qrels = {"q": {"a": 2, "c": -1, "gone": 3}}
    rows = np.array([[0, 1, 2, PADDING], [0, 1, 2, PADDING]])
    assert grades_of(qrels, ["q", "other"], ["a", "b", "c"], rows, missing=-7).tolist() == [
        [2, -7, -1, -7],
        [-7, -7, -7, -7],
    ]


@pytest.mark.parametrize("seed", range(50))
def test_equals_the_definitions(seed):
    rng = random.Random(seed)
    documents = [f"{rng.choice('aZé')}{i}" for i in range(rng.choice([2, 15, 150]))]

    def some(most):
        return rng.sample(documents, rng.randint(0, min(most, len(documents))))

    qrels = {f"q{q}": {document: rng.randint(-2, 3) for document in some(12)} for q in range(4)}
    judged_by_any = {document for judged in qrels.values() for document in judged}
    levels = rng.choice([2, 10**6])
    run = {query: {d: rng.randint(-levels, levels) / 4 for d in some(150)} for query in qrels}
    for metrics in (ALL, [name for name in ALL if not name.startswith("hole")]):  # two ways inside
        ours = evaluate_run(qrels, run, metrics)
        for place, query in enumerate(qrels):
            expected = oracle(qrels[query], run[query], metrics, judged_by_any)
            assert {name: ours[name][place] for name in metrics} == pytest.approx(expected, abs=1e-12)
