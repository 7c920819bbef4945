"""Vectorised mining against mining one candidate at a time, on small random collections."""

from __future__ import annotations

import numpy as np
import pytest

from llara_core.config import MineSettings
from llara_core.retrieval.bm25 import Bm25
from llara_core.retrieval.mining import mine
from tests.oracles.fake_encoder import FakeEncoder
from tests.oracles.mining_oracle import slow_mine
from tests.oracles.tiny_collection import collection

WORDS = [f"word{i}" for i in range(40)]

SETTINGS = {
    "defaults": {},
    "one list": {"bm25_depth": 0},
    "other list": {"dense_depth": 0},
    "window": {"skip_top": 2, "bm25_depth": 7, "dense_depth": 12},
    "strict": {"positive_margin": 0.6, "near_duplicate": 0.3},
    "by rank alone": {"positive_margin": None, "near_duplicate": None},
    "distance": {"positive_margin": 1.0, "positive_distance": 0.2},
    "share and distance": {"positive_margin": 0.8, "positive_distance": 0.1},
    "mean": {"positive_reference": "mean", "negatives": 3},
    "worst": {"positive_reference": "worst", "take_back": False, "negatives": 12},
}


def random_collection(seed):
    """Passages that repeat words and each other, several positives, queries that repeat."""
    random = np.random.default_rng(seed)

    def text(least, most):
        return " ".join(random.choice(WORDS, random.integers(least, most)))

    corpus = {f"d{i}": text(2, 9) for i in range(60)}
    for i in range(0, 60, 7):
        corpus[f"d{i}"] = corpus[f"d{(i * 3 + 1) % 60}"]
    queries = {f"q{i}": text(1, 5) for i in range(15)} | {"d3": text(2, 4)}
    queries["q14"] = queries["q2"].upper() + " "
    qrels = {
        query: {f"d{random.integers(60)}": int(random.integers(0, 3)) for _ in range(random.integers(1, 5))}
        for query in queries
    }
    qrels["q5"] = {"gone": 1}
    return collection(corpus, queries, {"train": qrels, "test": {"q1": {"d1": 1}}})


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", SETTINGS)
def test_equal_to_the_slow_oracle(name, seed):
    tiny, encoder = random_collection(seed), FakeEncoder(48)
    settings = MineSettings(**{"negatives": 6, "bm25_depth": 20, "dense_depth": 20} | SETTINGS[name])
    _, texts = tiny.split_queries("train")
    scores, rows = Bm25().index(tiny.passages).search(texts, 60)
    lists = [[int(row) for row, score in zip(*pair, strict=True) if score > 0]
             for pair in zip(rows, scores, strict=True)]  # fmt: skip
    expected = slow_mine(tiny, encoder, settings, lists, seed)
    mined = mine(tiny, encoder, settings, seed=seed)
    columns = (mined.table[column].to_pylist() for column in ("query_id", "corpus_id", "source", "rank"))
    assert list(zip(*columns, strict=True)) == expected
    assert len(expected) > 15
    vectors, queries = encoder.encode_passages(list(tiny.passages)), encoder.encode_queries(texts)
    ids, asked = tiny.corpus_ids, tiny.split_queries("train")[0]
    for row in mined.table.to_pylist():
        product = vectors[ids.index(row["corpus_id"])] @ queries[asked.index(row["query_id"])]
        assert row["score"] == pytest.approx(float(product), abs=1e-6)
