"""The metrics against the packages whose names they bear."""

from __future__ import annotations

import logging
import random

import numpy as np
import pytest

from llara_core.evaluation.metrics import evaluate_rows, evaluate_run, means

pytrec_eval = pytest.importorskip("pytrec_eval", reason="pytrec_eval-terrier comes with the extra dev")

CUTS = (1, 3, 10, 100, 1000)
THEIRS = {"ndcg": "ndcg_cut", "recall": "recall", "precision": "P", "map": "map_cut"}
NAMES = {f"{ours}_at_{k}": f"{theirs}_{k}" for ours, theirs in THEIRS.items() for k in CUTS}
MRR = tuple(f"mrr_at_{k}" for k in CUTS)


def random_case(rng: random.Random):
    """Graded and negative judgements, ids that sort unlike numbers, unjudged results, many ties.

    Some queries have no relevant document, some no result, some are missing from the run, and some of
    the run's are not judged. Grades stop at -1: below, trec_eval reads past its arrays and pytrec_eval
    crashes the process.
    """
    documents = [f"{rng.choice(['', '0', 'd', 'é', 'Z', '中'])}{i}" for i in range(rng.choice([3, 30, 200]))]
    qrels, run = {}, {}
    for q in range(rng.randint(1, 5)):
        judged = rng.sample(documents, rng.randint(1, min(20, len(documents))))
        top = rng.choice([0, 1, 3])
        qrels[f"q{q}"] = {d: rng.randint(-1, top) if top else 0 for d in judged}
        found = rng.sample(documents, rng.randint(1, len(documents)))
        levels = rng.choice([1, 3, 1000])
        near = rng.choice([0.0, 1e-9])  # apart in float64, equal in float32
        run[f"q{q}"] = {d: rng.randint(-levels, levels) / 7 + near * i for i, d in enumerate(found)}
        fate = rng.random()
        if fate < 0.1:
            run[f"q{q}"] = {}
        elif fate < 0.2:
            del run[f"q{q}"]
    return qrels, run | {"unjudged": {documents[0]: 1.0}}


def trec_eval(qrels, run):
    """pytrec_eval's values per query; it answers for those with results only."""
    measures = {f"{name}.{','.join(map(str, CUTS))}" for name in THEIRS.values()}
    answered = {query: results for query, results in run.items() if results}
    whole = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(answered)
    values = {
        query: {ours: found[theirs] for ours, theirs in NAMES.items()} for query, found in whole.items()
    }
    for k in CUTS:  # trec_eval's recip_rank has no cut-off: give it the first k only
        shallow = {}
        for query, results in answered.items():
            held = {d: float(np.float32(score)) for d, score in results.items()}
            by_id = sorted(held, reverse=True)
            kept = sorted(by_id, key=held.__getitem__, reverse=True)[:k]
            shallow[query] = {d: float(k - i) for i, d in enumerate(kept)}
        ranks = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(shallow)
        for query, found in ranks.items():
            values[query][f"mrr_at_{k}"] = found["recip_rank"]
    return values


@pytest.mark.parametrize("seed", range(1000))
def test_equals_trec_eval(seed):
    qrels, run = random_case(random.Random(seed))
    names = [*NAMES, *MRR]
    ours, theirs = evaluate_run(qrels, run, names), trec_eval(qrels, run)
    assert set(theirs) == {query for query in qrels if run.get(query)}
    for place, query in enumerate(qrels):
        expected = theirs.get(query, dict.fromkeys(names, 0.0))
        assert {name: ours[name][place] for name in names} == pytest.approx(expected, rel=0, abs=1e-12)


def test_rows_equal_trec_eval():
    """The array input on a larger case: graded, tied at two decimals, deeper than the cut-offs."""
    rng = np.random.default_rng(0)
    corpus = [str(i) for i in rng.permutation(3000)]
    rows = np.stack([rng.permutation(3000)[:1200] for _ in range(20)])
    scores = rng.normal(size=rows.shape).round(2).astype(np.float32)
    ids = [f"q{i}" for i in range(20)]
    qrels = {
        query: {corpus[j]: int(rng.integers(-1, 4)) for j in rng.permutation(3000)[:300]} for query in ids
    }
    run = {
        query: {corpus[r]: float(s) for r, s in zip(rows[i], scores[i], strict=True)}
        for i, query in enumerate(ids)
    }
    names = [*NAMES, *MRR]
    ours, theirs = evaluate_rows(qrels, ids, corpus, rows, scores, names), trec_eval(qrels, run)
    for place, query in enumerate(ids):
        found = {name: ours[name][place] for name in names}
        assert found == pytest.approx(theirs[query], rel=0, abs=1e-12)


def test_scores_are_compared_as_float32_like_trec_eval():
    qrels, run = {"q": {"b": 1}}, {"q": {"a": 1.0 + 1e-12, "b": 1.0}}
    expected = trec_eval(qrels, run)["q"]["ndcg_at_10"]
    assert evaluate_run(qrels, run)["ndcg_at_10"][0] == pytest.approx(expected, abs=1e-12) == 1.0


@pytest.mark.parametrize("seed", range(100))
def test_r_cap_and_hole_equal_beir(seed, caplog):
    """Without ties, which beir settles by the order of its dictionary; it rounds means to five digits."""
    custom = pytest.importorskip(
        "beir.retrieval.custom_metrics", reason="beir comes with the extra dev", exc_type=ImportError
    )
    caplog.set_level(logging.WARNING)
    rng = random.Random(seed)
    documents = [f"d{i}" for i in range(rng.choice([5, 60]))]
    qrels, run = {}, {}
    for q in range(rng.randint(1, 8)):
        judged = rng.sample(documents, rng.randint(1, min(15, len(documents))))
        # beir divides by the number of relevant documents: at least one
        qrels[f"q{q}"] = {d: rng.randint(-1, 2) for d in judged} | {judged[0]: 1}
        found = rng.sample(documents, rng.randint(0, len(documents)))
        run[f"q{q}"] = dict(zip(found, rng.sample(range(1000), len(found)), strict=True))
    if rng.random() < 0.3:
        del run["q0"]  # beir still divides by the number of judged queries
    cuts = [1, 3, 10, 100]
    ours = means(evaluate_run(qrels, run, [f"{kind}_at_{k}" for kind in ("r_cap", "hole") for k in cuts]))
    r_cap, hole = custom.recall_cap(qrels, run, cuts), custom.hole(qrels, run, cuts)
    for k in cuts:
        assert ours[f"r_cap_at_{k}"] == pytest.approx(r_cap[f"R_cap@{k}"], abs=5.1e-6)
        assert ours[f"hole_at_{k}"] == pytest.approx(hole[f"Hole@{k}"], abs=5.1e-6)
