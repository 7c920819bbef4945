from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from llara_core.config import Bm25Settings, MineSettings
from llara_core.errors import ConfigError, DataError
from llara_core.retrieval import mining
from llara_core.retrieval.mining import NEGATIVES_SCHEMA, mine
from llara_core.retrieval.words import jaccard, word_set
from tests.oracles.fake_encoder import FakeEncoder
from tests.oracles.tiny_collection import collection

TOPICS, SIZE = 8, 12


def topical():
    """Each topic's documents share words; the query is nearest to its own document."""
    corpus = {
        f"t{t}d{i}": f"topic{t} theme{t} subject{t} own{t}x{i} more{t}x{i}"
        for t in range(TOPICS)
        for i in range(SIZE)
    }
    queries = {f"q{t}": f"topic{t} theme{t} own{t}x0 more{t}x0" for t in range(TOPICS)}
    return collection(corpus, queries, {"train": {f"q{t}": {f"t{t}d0": 1} for t in range(TOPICS)}})


class Table(FakeEncoder):
    """Vectors looked up by text."""

    def __init__(self, vectors):
        super().__init__(dimension=2, fingerprint="table")
        self.vectors = vectors

    def encode_queries(self, texts):
        return np.array([self.vectors[text] for text in texts], np.float32)


def ids(mined, query=None):
    rows = mined.table.to_pylist()
    return [row["corpus_id"] for row in rows if query in (None, row["query_id"])]


def test_negatives_are_of_the_topic_and_never_positive():
    tiny = topical()
    mined = mine(tiny, FakeEncoder(2048), MineSettings(negatives=4, bm25_depth=20, dense_depth=20))
    assert mined.table.schema == NEGATIVES_SCHEMA
    assert mined.table.num_rows == 4 * TOPICS
    for row in mined.table.to_pylist():
        topic = row["query_id"][1:]
        assert row["corpus_id"].startswith(f"t{topic}d") and row["corpus_id"] != f"t{topic}d0"
    assert set(mined.table["source"].to_pylist()) == {"bm25", "dense"}
    assert mined.stats["note"] == "" and mined.stats["past_margin"] == 0
    assert sum(mined.stats["shares"].values()) == pytest.approx(1)
    assert mined.stats["excluded"]["positive"] >= TOPICS
    json.dumps(mined.stats)


@pytest.mark.parametrize(("only", "other"), [("bm25", "dense"), ("dense", "bm25")])
def test_one_source_alone(only, other):
    settings = MineSettings(negatives=3, **{f"{other}_depth": 0, f"{only}_depth": 20})
    mined = mine(topical(), FakeEncoder(2048), settings)
    assert set(mined.table["source"].to_pylist()) == {only}
    assert mined.stats["shares"] == {only: 1.0, other: 0.0}
    assert mined.stats["mean_score"][other] is None


def test_no_source_is_refused():
    with pytest.raises(ConfigError, match="all 0"):
        mine(topical(), FakeEncoder(), MineSettings(bm25_depth=0, dense_depth=0))


def test_near_duplicates_of_a_positive_are_left_out():
    corpus = {"p": "red green blue pink", "near": "Pink, blue, green, red!", "far": "red green grey white"}
    tiny = collection(corpus, {"q": "red green blue"}, {"train": {"q": {"p": 1}}})
    mined = mine(tiny, FakeEncoder(512), MineSettings(positive_margin=1.0))
    assert ids(mined) == ["far"]
    assert mined.stats["excluded"]["near_duplicate"] == 1
    assert mined.stats["queries_short"] == 1


def test_positives_are_shared_between_queries_of_one_text():
    corpus = {"p1": "red alpha", "p2": "red beta", "n": "red gamma"}
    queries = {"a": "find red", "b": "Find  red"}
    tiny = collection(corpus, queries, {"train": {"a": {"p1": 1}, "b": {"p2": 1}}})
    assert ids(mine(tiny, FakeEncoder(512), MineSettings())) == ["n", "n"]


def test_the_query_itself_and_grade_zero():
    """A document with the query's own id is none of its negatives; one judged irrelevant may be."""
    corpus = {"q": "red fish swims", "p": "red fish eats", "zero": "red fish sleeps"}
    tiny = collection(corpus, {"q": "red fish"}, {"train": {"q": {"p": 1, "zero": 0}}})
    assert ids(mine(tiny, FakeEncoder(512), MineSettings())) == ["zero"]


def test_the_margin_holds_for_candidates_of_both_sources():
    vectors = {
        "ask": (1, 0),
        "ask p": (0.8, 0),
        "ask above": (0.79, 0),
        "ask below": (0.75, 0),
        "ask low": (0.1, 0),
    }
    corpus = {text.split()[-1]: text for text in vectors if " " in text}
    tiny = collection(corpus, {"q": "ask"}, {"train": {"q": {"p": 1}}})
    for depths in ({"bm25_depth": 0}, {"dense_depth": 0}, {}):
        mined = mine(tiny, Table(vectors), MineSettings(negatives=2, positive_margin=0.95, **depths))
        assert sorted(ids(mined)) == ["below", "low"]  # 0.95 x 0.8 = 0.76
        assert mined.stats["past_margin"] == 0
        scores = dict(zip(ids(mined), mined.table["score"].to_pylist(), strict=True))
        assert scores == pytest.approx({"below": 0.75, "low": 0.1})
    assert mined.stats["mean_positive_score"] == pytest.approx(0.8)
    taken_back = mine(tiny, Table(vectors), MineSettings(negatives=3, positive_margin=0.95))
    assert ids(taken_back)[-1] == "above" and taken_back.stats["past_margin"] == 1


def test_a_model_that_scores_all_alike_still_gives_negatives(caplog):
    encoder = FakeEncoder(64, collapsed=True)
    with caplog.at_level(logging.WARNING):
        mined = mine(topical(), encoder, MineSettings(negatives=4))
    assert mined.table.num_rows == 4 * TOPICS
    assert mined.stats["past_margin"] == 4 * TOPICS
    assert "lowest first" in mined.stats["note"] and "lowest first" in caplog.text
    for query in {row["query_id"] for row in mined.table.to_pylist()}:
        scores = [row["score"] for row in mined.table.to_pylist() if row["query_id"] == query]
        assert scores == sorted(scores)


def test_a_negative_positive_score_keeps_the_limit_below_it():
    vectors = {"ask": (1, 0), "p": (-0.5, 0), "above": (-0.49, 0), "same": (-0.5, 0), "below": (-0.9, 0)}
    tiny = collection({k: k for k in vectors if k != "ask"}, {"q": "ask"}, {"train": {"q": {"p": 1}}})
    assert ids(mine(tiny, Table(vectors), MineSettings(negatives=1))) == ["below"]


def test_skip_top_leaves_ranks_out():
    settings = MineSettings(negatives=2, bm25_depth=5, dense_depth=0, skip_top=3)
    ranks = mine(topical(), FakeEncoder(2048), settings).table["rank"].to_pylist()
    assert min(ranks) == 4 and max(ranks) <= 8


def test_deterministic_and_independent_of_blocks(monkeypatch):
    tiny, encoder = topical(), FakeEncoder(256)
    first = mine(tiny, encoder, MineSettings(), Bm25Settings(), seed=3)
    assert mine(tiny, encoder, MineSettings(), Bm25Settings(), seed=3).table.equals(first.table)
    monkeypatch.setattr(mining, "_ENCODE_BLOCK", 3)
    monkeypatch.setattr(mining, "_CHOICE_BLOCK", 2)
    assert mine(tiny, encoder, MineSettings(), Bm25Settings(), seed=3).table.equals(first.table)
    others = [mine(tiny, encoder, MineSettings(), seed=seed).table for seed in range(4)]
    assert not all(table.equals(others[0]) for table in others)


def test_vectors_are_taken_from_the_cache(tmp_path):
    tiny, encoder = topical(), FakeEncoder(256)
    first = mine(tiny, encoder, MineSettings(), cache=tmp_path)
    again = mine(tiny, encoder, MineSettings(), cache=tmp_path)
    assert encoder.passages_encoded == TOPICS * SIZE
    assert again.table.equals(first.table)


def test_queries_without_a_positive_and_corpora_of_positives():
    tiny = collection(
        {"a": "red", "b": "blue"}, {"q": "red", "r": "blue"}, {"train": {"q": {"a": 0}, "r": {"gone": 1}}}
    )
    mined = mine(tiny, FakeEncoder(), MineSettings())
    assert mined.table.num_rows == 0 and mined.table.schema == NEGATIVES_SCHEMA
    assert mined.stats["queries_without_positive"] == 2 and "no query has a positive" in mined.stats["note"]
    tiny = collection({"a": "red"}, {"q": "red"}, {"train": {"q": {"a": 1}}})
    assert "no hard negative" in mine(tiny, FakeEncoder(), MineSettings()).stats["note"]
    with pytest.raises(DataError, match="no split 'dev'"):
        mine(tiny, FakeEncoder(), MineSettings(split="dev"))


def test_word_sets():
    assert word_set("The cat, THE dog_2!") == {"the", "cat", "dog_2"}
    assert jaccard({"a", "b"}, {"b", "c"}) == pytest.approx(1 / 3)
    assert jaccard(set(), set()) == 1.0 and jaccard(set(), {"a"}) == 0.0


def test_mining_for_some_queries_is_drawn_by_the_seed():
    tiny = topical()

    def queries(seed, most):
        settings = MineSettings(queries=most, negatives=2, bm25_depth=5, dense_depth=5)
        return list(
            dict.fromkeys(mine(tiny, FakeEncoder(64), settings, seed=seed).table["query_id"].to_pylist())
        )

    some = queries(0, 3)
    assert len(some) == 3 and some == sorted(some) and queries(0, 3) == some
    assert any(queries(seed, 3) != some for seed in range(1, 4))
    assert len(queries(0, TOPICS + 1)) == TOPICS
