from __future__ import annotations

import math
import random

import numpy as np
import pytest

from llara_core.evaluation.metrics import METRICS, PADDING, evaluate_rows, evaluate_run, means, trec_order
from tests.oracles.metric_oracle import oracle

pytrec_eval = pytest.importorskip("pytrec_eval", reason="pytrec_eval-terrier comes with the extra dev")


def random_case(rng: random.Random):
    """Graded and negative judgements, unjudged results, many ties, some queries empty or unjudgeable."""
    documents = [f"{rng.choice(['', 'd', 'é', 'Z'])}{i}" for i in range(rng.choice([3, 30, 200]))]
    qrels, run = {}, {}
    for q in range(rng.randint(1, 6)):
        judged = rng.sample(documents, rng.randint(1, min(20, len(documents))))
        top = rng.choice([0, 1, 3])
        qrels[f"q{q}"] = {d: rng.randint(-1, top) if top else 0 for d in judged}
        found = rng.sample(documents, rng.randint(1, len(documents)))
        levels = rng.choice([1, 3, 1000])
        run[f"q{q}"] = {d: rng.randint(0, levels) / 7 for d in found}
    return qrels, run


def trec_eval(qrels, run):
    whole = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.100", "map_cut.100"}).evaluate(run)
    shallow = {}  # trec_eval's recip_rank has no cut-off: give it the first ten only
    for query, results in run.items():
        by_id = sorted(results, reverse=True)
        kept = sorted(by_id, key=results.__getitem__, reverse=True)[:10]
        shallow[query] = {d: float(10 - i) for i, d in enumerate(kept)}
    ranks = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(shallow)
    return {
        q: {
            "ndcg_at_10": whole[q]["ndcg_cut_10"],
            "mrr_at_10": ranks[q]["recip_rank"],
            "recall_at_100": whole[q]["recall_100"],
            "map_at_100": whole[q]["map_cut_100"],
        }
        for q in whole
    }


@pytest.mark.parametrize("seed", range(300))
def test_equals_trec_eval_and_the_definition(seed):
    qrels, run = random_case(random.Random(seed))
    ours, theirs = evaluate_run(qrels, run), trec_eval(qrels, run)
    for place, query in enumerate(qrels):
        plain = oracle(qrels[query], run[query])
        for metric in METRICS:
            assert ours[metric][place] == pytest.approx(theirs[query][metric], abs=1e-9), (metric, query)
            assert ours[metric][place] == pytest.approx(plain[metric], abs=1e-9), (metric, query)


def test_hand_computed_values():
    qrels = {"q": {"a": 2, "b": 1, "c": 1}}
    run = {"q": {"x": 9.0, "a": 8.0, "y": 7.0, "b": 6.0}}
    ours = evaluate_run(qrels, run)
    ideal = 2 + 1 / math.log2(3) + 1 / 2
    assert ours["ndcg_at_10"][0] == pytest.approx((2 / math.log2(3) + 1 / math.log2(5)) / ideal)
    assert ours["mrr_at_10"][0] == 0.5
    assert ours["recall_at_100"][0] == pytest.approx(2 / 3)
    assert ours["map_at_100"][0] == pytest.approx((1 / 2 + 2 / 4) / 3)


def test_ties_go_to_the_greater_id_as_a_string():
    assert evaluate_run({"q": {"9": 1}}, {"q": {"10": 1.0, "9": 1.0}})["mrr_at_10"][0] == 1.0
    assert evaluate_run({"q": {"10": 1}}, {"q": {"10": 1.0, "9": 1.0}})["mrr_at_10"][0] == 0.5


def test_scores_are_compared_as_float32_like_trec_eval():
    qrels, run = {"q": {"b": 1}}, {"q": {"a": 1.0 + 1e-12, "b": 1.0}}
    expected = trec_eval(qrels, run)["q"]["ndcg_at_10"]
    assert evaluate_run(qrels, run)["ndcg_at_10"][0] == pytest.approx(expected, abs=1e-9) == 1.0


def test_cut_offs():
    run = {"q": {f"d{i:03}": float(-i) for i in range(150)}}
    at_eleven = evaluate_run({"q": {"d010": 1}}, run)
    assert at_eleven["ndcg_at_10"][0] == at_eleven["mrr_at_10"][0] == 0.0
    assert at_eleven["map_at_100"][0] == pytest.approx(1 / 11)
    assert evaluate_run({"q": {"d099": 1}}, run)["recall_at_100"][0] == 1.0
    assert evaluate_run({"q": {"d100": 1}}, run)["recall_at_100"][0] == 0.0


def test_queries_without_results_or_relevant_documents_count_as_zero():
    qrels = {"none": {"a": 1}, "empty": {"a": 1}, "irrelevant": {"a": 0}, "good": {"a": 1}}
    run = {"empty": {}, "irrelevant": {"a": 1.0}, "good": {"a": 1.0}, "unjudged": {"a": 1.0}}
    for values in evaluate_run(qrels, run).values():
        np.testing.assert_array_equal(values, [0, 0, 0, 1])
    assert means(evaluate_run(qrels, run)) == dict.fromkeys(METRICS, 0.25)
    assert means(evaluate_run({}, {})) == dict.fromkeys(METRICS, 0.0)


def test_rows_and_dictionaries_agree_and_padding_is_nobody():
    rng = np.random.default_rng(0)
    corpus = [f"d{i}" for i in range(50)]
    rows = np.stack([rng.permutation(50)[:20] for _ in range(8)])
    scores = rng.integers(0, 4, rows.shape).astype(np.float32)
    qrels = {f"q{i}": {corpus[j]: 1 for j in rng.permutation(50)[:5]} for i in range(8)} | {"q8": {"gone": 1}}
    run = {f"q{i}": {corpus[r]: float(s) for r, s in zip(rows[i], scores[i], strict=True)} for i in range(8)}
    padded_rows = np.full((9, 25), PADDING)
    padded_rows[:8, 5:] = rows
    padded_scores = np.full((9, 25), 99, np.float32)
    padded_scores[:8, 5:] = scores
    one, other = (
        evaluate_run(qrels, run),
        evaluate_rows(qrels, list(qrels), corpus, padded_rows, padded_scores),
    )
    for metric in METRICS:
        np.testing.assert_array_equal(one[metric], other[metric])
    assert means(one)["recall_at_100"] > 0


def test_order_is_independent_of_the_columns():
    rows = np.array([[0, 1, 2, 3]])
    scores = np.array([[1, 1, 2, 1]], np.float32)
    ordered, values = trec_order(["b", "d", "a", "c"], rows, scores)
    assert ordered.tolist() == [[2, 1, 3, 0]]
    assert values.tolist() == [[2, 1, 1, 1]]
