from __future__ import annotations

import json

import numpy as np
import pytest

from llara_core.config import Bm25Settings
from llara_core.errors import DataError
from llara_core.evaluation.beir import Bm25System, DenseSystem, evaluate_system
from llara_core.evaluation.metrics import PADDING, evaluate_run
from llara_core.evaluation.results import SystemResult
from tests.oracles.fake_encoder import FakeEncoder
from tests.oracles.tiny_collection import collection


class Scripted:
    """Finds the rows it was told to, scored by place."""

    name = "scripted"

    def __init__(self, rows):
        self.rows = np.array(rows)

    def search(self, queries, k):
        assert len(queries) == len(self.rows)
        rows = self.rows[:, :k]
        return np.tile(-np.arange(rows.shape[1], dtype=np.float32), (len(rows), 1)), rows


def words(count=30):
    corpus = {f"d{i}": f"alpha{i} beta{i % 7} common word{i % 3}" for i in range(count)}
    queries = {f"q{i}": f"alpha{i} beta{i % 7}" for i in range(0, count, 2)}
    qrels = {"test": {f"q{i}": {f"d{i}": 2, f"d{(i + 7) % count}": 1} for i in range(0, count, 2)}}
    return collection(corpus, queries, qrels)


def test_bm25_and_dense_find_what_shares_words():
    tiny = words()
    for system in (Bm25System(tiny), DenseSystem("dense", FakeEncoder(512), tiny)):
        result = evaluate_system(tiny, "test", system)
        assert result.means["mrr_at_10"] == 1.0
        assert result.documents == 30 and len(result.query_ids) == 15
        run = {
            q: dict(zip(result.found[i], result.scores[i], strict=True))
            for i, q in enumerate(result.query_ids)
        }
        again = evaluate_run(tiny.judgements("test"), run)
        for metric, values in again.items():
            np.testing.assert_allclose(result.per_query[metric], values, atol=1e-12)


def test_the_query_itself_is_not_a_result():
    """As in ArguAna, where each query is a document of the corpus."""
    tiny = collection({"a": "x", "b": "y"}, {"a": "x"}, {"test": {"a": {"b": 1}}})
    result = evaluate_system(tiny, "test", Scripted([[0, 1]]))
    assert result.found == [["b"]]
    assert result.means["mrr_at_10"] == 1.0


def test_the_query_itself_stays_when_it_is_judged():
    tiny = collection({"a": "x", "b": "y"}, {"a": "x"}, {"test": {"a": {"a": 1}}})
    assert evaluate_system(tiny, "test", Scripted([[0, 1]])).found == [["a", "b"]]


def test_dropping_the_query_leaves_as_many_results_as_asked():
    corpus = {f"d{i:03}": "x" for i in range(101)}
    tiny = collection(corpus, {"d000": "x"}, {"test": {"d000": {"d100": 1}}})
    result = evaluate_system(tiny, "test", Scripted([list(range(101))]))
    assert len(result.found[0]) == 100
    assert result.means["recall_at_100"] == 1.0


def test_bm25_finds_nothing_without_a_shared_word():
    tiny = collection(
        {"a": "red", "b": "blue"}, {"q": "green", "r": "blue"}, {"test": {"q": {"a": 1}, "r": {"b": 1}}}
    )
    result = evaluate_system(tiny, "test", Bm25System(tiny, Bm25Settings()))
    assert result.found == [[], ["b"]]
    np.testing.assert_array_equal(result.per_query["ndcg_at_10"], [0, 1])


def test_judged_documents_that_the_corpus_lacks_count_as_missed():
    tiny = collection({"a": "x"}, {"q": "x"}, {"test": {"q": {"a": 1, "gone": 1}}})
    assert evaluate_system(tiny, "test", Scripted([[0, PADDING]])).means["recall_at_100"] == 0.5


def test_unusable_input():
    tiny = words()
    with pytest.raises(DataError, match="no split 'dev'"):
        evaluate_system(tiny, "dev", Bm25System(tiny))
    with pytest.raises(ValueError, match="at least 100"):
        evaluate_system(tiny, "test", Bm25System(tiny), depth=10)


def test_saving_and_loading_give_the_same_result(tmp_path):
    tiny = words()
    result = evaluate_system(tiny, "test", Bm25System(tiny))
    again = SystemResult.load(result.save(tmp_path / "bm25"))
    assert again.to_json() == result.to_json()
    assert again.found == result.found and again.query_ids == result.query_ids
    np.testing.assert_array_equal(again.scores[0], result.scores[0])
    for metric, values in result.per_query.items():
        np.testing.assert_array_equal(again.per_query[metric], values)
    result.save(tmp_path / "bm25")  # an earlier result is replaced
    with pytest.raises(DataError, match="not a saved result"):
        SystemResult.load(tmp_path)


def test_the_json_of_evaluate():
    tiny = words()
    written = json.loads(json.dumps(evaluate_system(tiny, "test", Bm25System(tiny)).to_json()))
    assert list(written) == ["ndcg_at_10", "mrr_at_10", "recall_at_100", "map_at_100", "queries", "documents"]
    assert written["queries"] == 15 and written["documents"] == 30 and 0 < written["map_at_100"] <= 1


def test_trec_run_gives_the_same_metrics(tmp_path):
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="comes with the extra dev")
    tiny = words()
    result = evaluate_system(tiny, "test", DenseSystem("my model", FakeEncoder(32), tiny))
    lines = result.write_trec_run(tmp_path / "run.trec").read_text().splitlines()
    assert lines[0].split()[1:4:2] == ["Q0", "1"] and lines[0].split()[-1] == "my_model"
    run: dict[str, dict[str, float]] = {}
    for line in lines:
        query, _, document, _, score, _ = line.split()
        run.setdefault(query, {})[document] = float(score)
    evaluator = pytrec_eval.RelevanceEvaluator(tiny.judgements("test"), {"ndcg_cut.10", "map_cut.100"})
    theirs = evaluator.evaluate(run)
    for place, query in enumerate(result.query_ids):
        assert result.per_query["ndcg_at_10"][place] == pytest.approx(theirs[query]["ndcg_cut_10"], abs=1e-9)
        assert result.per_query["map_at_100"][place] == pytest.approx(theirs[query]["map_cut_100"], abs=1e-9)


POLICIES = {"drop": [["b"]], "keep": [["a", "b"]], "unless_judged": [["a", "b"]]}


@pytest.mark.parametrize("policy", POLICIES)
def test_the_three_self_match_policies(policy):
    tiny = collection({"a": "x", "b": "y"}, {"a": "x"}, {"test": {"a": {"a": 1, "b": 1}}})
    result = evaluate_system(tiny, "test", Scripted([[0, 1]]), protocol={"identical_ids": policy})
    assert result.found == POLICIES[policy]
    assert result.protocol["identical_ids"] == policy


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="identical_ids must be unless_judged, drop, keep; got 'dorp'"):
        evaluate_system(words(), "test", Scripted([[0]] * 15), protocol={"identical_ids": "dorp"})


def test_the_relevance_cut_leaves_the_gains_of_ndcg():
    """By hand: grades 1, 2 at ranks 1, 2; with the cut at 2 only the second is relevant."""
    tiny = collection({"a": "x", "b": "y"}, {"q": "x"}, {"test": {"q": {"a": 1, "b": 2}}})
    metrics = ("ndcg_at_10", "mrr_at_10", "recall_at_100", "precision_at_1")
    plain = evaluate_system(tiny, "test", Scripted([[0, 1]]), metrics=metrics)
    cut = evaluate_system(tiny, "test", Scripted([[0, 1]]), metrics=metrics, protocol={"relevance_cut": 2})
    assert list(cut.per_query) == list(metrics)
    assert plain.means["mrr_at_10"] == 1.0 and cut.means["mrr_at_10"] == 0.5
    assert cut.means["recall_at_100"] == 1.0 and cut.means["precision_at_1"] == 0.0
    gained = (1 + 2 / np.log2(3)) / (2 + 1 / np.log2(3))
    assert plain.means["ndcg_at_10"] == cut.means["ndcg_at_10"] == pytest.approx(gained)


def test_metrics_deeper_than_the_search_are_refused():
    with pytest.raises(ValueError, match="depth must be at least 1000 for recall_at_1000, got 100"):
        evaluate_system(words(), "test", Scripted([[0]] * 15), metrics=("recall_at_1000",))


def test_ids_of_what_was_not_found_are_never_made():
    """On a corpus of millions they would be the largest thing in memory."""
    tiny = words()
    result = evaluate_system(tiny, "test", DenseSystem("d", FakeEncoder(512), tiny))
    assert result.means["mrr_at_10"] == 1.0
    assert "corpus_ids" not in vars(tiny)


def test_places_that_hold_nothing_are_left_out_wherever_they_stand():
    tiny = collection(
        {"a": "x", "b": "y", "c": "z"}, {"q": "x", "r": "y"}, {"test": {"q": {"c": 1}, "r": {"a": 1}}}
    )
    result = evaluate_system(tiny, "test", Scripted([[PADDING, 2, PADDING], [PADDING, PADDING, PADDING]]))
    assert result.found == [["c"], []]
    np.testing.assert_array_equal(result.per_query["mrr_at_10"], [1, 0])


@pytest.mark.slow
def test_arguana_without_self_matches_is_far_better():
    """The trap of beir's issue 91: every query is a document, and would find itself first."""
    from pathlib import Path

    from llara_core.data.formats import open_collection

    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "arguana"
    if not folder.is_dir():
        pytest.skip("ArguAna's BEIR folder is not beside the repository")
    arguana = open_collection(folder)
    system = Bm25System(arguana)
    scores = {
        policy: evaluate_system(arguana, "test", system, protocol={"identical_ids": policy}).means[
            "ndcg_at_10"
        ]
        for policy in POLICIES
    }
    assert scores["drop"] == scores["unless_judged"] > 1.2 * scores["keep"]
