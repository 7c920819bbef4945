"""The audit: figures that can be counted by hand, and examples that are what was mined."""

from __future__ import annotations

import json

import numpy as np
import pytest

from llara_core.config import MineSettings
from llara_core.retrieval.audit import summary_lines
from llara_core.retrieval.audit_examples import drawn
from llara_core.retrieval.mining import mine
from tests.oracles.fake_encoder import FakeEncoder
from tests.oracles.tiny_collection import collection

VECTORS = {
    "ask one": (1, 0), "ask one please": (0, 1),
    "good": (0.8, 0.6), "above mark": (0.9, 0), "near mark": (0.79, 0), "low mark": (0.3, 0.1),
    "twin good thing": (0.5, 0), "other": (0.1, 0.7),
}  # fmt: skip


class Table(FakeEncoder):
    """Vectors looked up by text."""

    def encode_queries(self, texts):
        return np.array([VECTORS[text] for text in texts], np.float32)

    encode_passages = encode_queries


@pytest.fixture(scope="module")
def mined():
    """One query with every suspicion, and another in nearly its words."""
    corpus = {text.replace(" ", "_"): text for text in VECTORS if not text.startswith("ask")}
    queries = {"q": "ask one", "r": "ask one please"}
    qrels = {
        "train": {"q": {"good": 1}, "r": {"other": 1}},
        "test": {"q": {"low_mark": 1}},
    }
    settings = MineSettings(negatives=4, bm25_depth=0, dense_depth=6, near_duplicate=0.9)
    return mine(collection(corpus, queries, qrels), Table(2, "table"), settings)


def rows(mined, query):
    return {row["corpus_id"]: row for row in mined.table.to_pylist() if row["query_id"] == query}


def test_suspicions_by_hand(mined):
    """Of q, limit 0.76: low_mark, twin, other are kept, near_mark is taken back; r keeps four low ones."""
    assert list(rows(mined, "q")) == ["twin_good_thing", "low_mark", "other", "near_mark"]
    assert list(rows(mined, "r")) == ["good", "low_mark", "above_mark", "near_mark"]
    suspected = mined.audit["suspected"]
    assert suspected["past_limit"] == 1  # near_mark, for q
    assert suspected["judged_elsewhere"] == 1  # low_mark, for q
    assert suspected["answers_a_like_query"] == 2  # other for q, good for r: their words agree to 2/3
    assert suspected["like_a_positive"] == 0
    assert suspected["count"] == 4 and suspected["share"] == 0.5


def test_scores_and_margins_by_hand(mined):
    scores, margins = mined.audit["scores"], mined.audit["margins"]
    assert sum(scores["positives"]) == 2 and sum(scores["negatives"]["dense"]) == 8
    assert scores["summary"]["positives"]["mean"] == pytest.approx((0.8 + 0.7) / 2)
    negatives = [0.5, 0.3, 0.1, 0.79, 0.6, 0.1, 0.0, 0.0]
    assert scores["summary"]["negatives"]["mean"] == pytest.approx(np.mean(negatives))
    assert sum(margins["counts"]) == 8 and margins["above_positive"] == 0
    assert margins["mean"] == pytest.approx(np.mean([0.8 * 4 - 1.69, 0.7 * 4 - 0.7]) / 4)
    edges = scores["edges"]
    assert edges[0] == pytest.approx(0) and edges[-1] == pytest.approx(0.8) and len(edges) == 41


def test_sources_and_what_was_left_out(mined):
    audit = mined.audit
    assert audit["overlap"] is None and audit["found"] == {"dense": 1.0}
    # q: good is its positive, above_mark scores past the limit; r: other.
    assert audit["excluded"]["dense"] == {
        "positive": 2, "margin": 1, "near_duplicate": 0, "repeated": 0, "veto": 0,
    }  # fmt: skip
    assert audit["stats"] == mined.stats and audit["settings"]["negatives"] == 4
    assert audit["ranks"]["dense"]["first"] == 1 and sum(audit["ranks"]["dense"]["counts"]) == 8
    assert audit["facts"]["model"] == "table" and audit["facts"]["documents"] == 6


def test_examples_are_the_negatives_in_full(mined):
    examples = mined.audit["examples"]
    assert len(examples) == 8
    for example in examples:
        row = rows(mined, example["query_id"])[example["negative"]["id"]]
        assert example["negative"]["score"] == pytest.approx(row["score"], abs=1e-6)
        assert example["negative"]["rank"] == row["rank"] and example["negative"]["source"] == "dense"
        assert example["positive"]["id"] == {"q": "good", "r": "other"}[example["query_id"]]
    near = next(one for one in examples if one["negative"]["id"] == "near_mark" and one["query_id"] == "q")
    assert near["suspicions"] == ["past_limit"] and near["limit"] == pytest.approx(0.76)
    assert near["positive"]["best_score"] == pytest.approx(0.8)
    json.dumps(mined.audit, allow_nan=False)


def test_half_of_the_examples_are_suspect_where_there_are_as_many():
    suspect, places = np.zeros(400, np.bool_), np.repeat(np.arange(100), 4)
    suspect[::7] = True
    lines = drawn(suspect, places, 0)
    assert len(lines) == 20 and sum(suspect[lines]) == 10 and drawn(suspect, places, 0) == lines
    assert drawn(suspect, places, 1) != lines
    assert len(drawn(suspect[:6], places[:6], 0)) == 6
    assert sum(suspect[drawn(np.arange(400) < 3, places, 0)]) <= 3
    assert len(drawn(np.ones(400, np.bool_), places, 0)) == 20


def test_two_searched_lists_overlap():
    corpus = {"p": "red green", "a": "red blue", "b": "red pink", "c": "white grey"}
    tiny = collection(corpus, {"q": "red"}, {"train": {"q": {"p": 1}}})
    audit = mine(tiny, FakeEncoder(512), MineSettings(positive_margin=None)).audit
    assert audit["overlap"] == {"at_10": 1.0, "window": 1.0}  # BM25 names three, the model all four
    assert audit["found"] == {"bm25": 1.0, "dense": 1.0}
    assert all(example["limit"] is None for example in audit["examples"])


def test_the_terminal_gets_the_main_figures(mined):
    lines = summary_lines(mined.audit)
    assert lines[0] == "8 negatives for 2 queries (100% dense)"
    assert "positives 0.750, negatives 0.299" in lines[1]
    assert "50.0% (1 past limit, 1 judged elsewhere, 2 answers a like query)" in lines[2]
    assert lines[3] == "left out: 2 positive, 1 margin"


def test_nothing_mined_is_told_too():
    tiny = collection({"a": "red"}, {"q": "red"}, {"train": {"q": {"a": 1}}})
    mined = mine(tiny, FakeEncoder(), MineSettings())
    json.dumps(mined.audit, allow_nan=False)
    assert summary_lines(mined.audit)[0] == "0 negatives for 1 queries (none)"
    assert mined.audit["examples"] == [] and mined.audit["scores"]["summary"]["negatives"]["mean"] is None
