from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from llara_core.config import Bm25Settings
from llara_core.data.collection import passage_text
from llara_core.evaluation.beir import Bm25System, evaluate_system
from llara_core.evaluation.subsets import greatest_jaccard, leak_free_subsets
from llara_core.retrieval.words import jaccard, word_set
from tests.oracles.tiny_collection import collection

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def read(name):
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"{name} is not beside the checkout (../shared/data/{name})")
    documents = [json.loads(line) for line in (folder / "corpus.jsonl").open(encoding="utf-8")]
    asked = [json.loads(line) for line in (folder / "queries.jsonl").open(encoding="utf-8")]
    qrels = {}
    for path in (folder / "qrels").glob("*.tsv"):
        qrels[path.stem] = {}
        for line in path.read_text(encoding="utf-8").splitlines()[1:]:
            query, document, grade = line.split("\t")
            qrels[path.stem].setdefault(query, {})[document] = int(grade)
    return collection(
        {one["_id"]: passage_text(one.get("title", ""), one["text"]) for one in documents},
        {one["_id"]: one["text"] for one in asked},
        qrels,
        name=name,
    )


def test_subsets_by_hand():
    tiny = collection(
        {"a": "x", "b": "y", "c": "z"},
        {
            "train": "red fish swims in blue water",
            "negated": "red fish never swims in blue water",  # 6 of 7 words: 0.86
            "new": "dogs bark at night",
            "seen": "a question about the first document",
            "irrelevant": "a question with a seen document judged irrelevant",
        },
        {
            "train": {"train": {"a": 1, "b": 0}},
            "test": {"negated": {"c": 1}, "new": {"b": 1}, "seen": {"a": 1, "c": 1}, "irrelevant": {"a": 0}},
        },
    )
    subsets = leak_free_subsets(tiny)
    assert subsets["no_near_duplicate"].tolist() == [False, True, True, True]
    assert subsets["unseen_documents"].tolist() == [True, True, False, False]


def test_without_a_training_split_nothing_leaks():
    tiny = collection({"a": "x"}, {"q": "x"}, {"test": {"q": {"a": 1}}})
    assert leak_free_subsets(tiny) == {}


def test_greatest_jaccard_equals_comparing_all_pairs():
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{i}" for i in rng.integers(0, 30, rng.integers(0, 8))) for _ in range(60)]
    first, second = texts[:25], texts[25:]
    expected = [max(jaccard(word_set(a), word_set(b)) for b in second) if word_set(a) else 0.0 for a in first]
    np.testing.assert_allclose(greatest_jaccard(first, second), expected, atol=1e-15)
    assert greatest_jaccard(["words"], []).tolist() == [0.0]


def test_scifact_subsets_and_bm25_agree_with_public_tables():
    """210 and 104 of SciFact's 300 test queries are leak-free; public tables give BM25 0.665 to 0.687."""
    scifact = read("scifact")
    subsets = leak_free_subsets(scifact)
    assert {name: int(chosen.sum()) for name, chosen in subsets.items()} == {
        "no_near_duplicate": 210,
        "unseen_documents": 104,
    }
    result = evaluate_system(scifact, "test", Bm25System(scifact, Bm25Settings()))
    assert result.documents == 5183 and len(result.query_ids) == 300
    assert 0.66 <= result.means["ndcg_at_10"] <= 0.69
