from __future__ import annotations

import math

import numpy as np
import pytest

from llara_core.config import Bm25Settings
from llara_core.errors import DataError
from llara_core.retrieval.bm25 import Bm25, split_identifiers

PLAIN = Bm25Settings(k1=1.2, b=0.75, stem=False, stop_words=False)


def by_definition(query, passages, k1, b):
    """Lucene's BM25, term by term."""
    documents = [p.split() for p in passages]
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for term in query.split():
            df = sum(term in d for d in documents)
            tf = document.count(term)
            idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
            score += idf * tf / (tf + k1 * (1 - b + b * len(document) / mean))
        scores.append(score)
    return scores


def test_scores_by_definition():
    passages = ["red fish blue fish", "red cat", "blue dog runs home fast", "green tree"]
    scores, rows = Bm25(PLAIN).index(passages).search(["blue fish red"], 4)
    expected = by_definition("blue fish red", passages, 1.2, 0.75)
    assert rows[0].tolist() == sorted(range(4), key=lambda row: -expected[row])
    np.testing.assert_allclose(scores[0], sorted(expected, reverse=True), rtol=1e-5)


def test_stemming_and_stop_words():
    passages = ["the runners were running", "a walker walked"]
    stemmed, rows = Bm25(Bm25Settings()).index(passages).search(["runs"], 2)
    assert rows[0, 0] == 0 and stemmed[0, 0] > 0
    assert Bm25(PLAIN).index(passages).search(["runs"], 2)[0].max() == 0
    assert Bm25(Bm25Settings()).index(passages).search(["the"], 2)[0].max() == 0
    assert Bm25(PLAIN).index(passages).search(["the"], 2)[0].max() > 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("parse_HTTPHeader of getURL2", "parse HTTP Header of get URL2"),
        ("__init__", "  init  "),
        ("plain words", "plain words"),
        ("iOSVersion", "i OS Version"),
    ],
)
def test_split_identifiers(text, expected):
    assert split_identifiers(text) == expected


def test_split_identifiers_finds_words_inside_names():
    passages = ["def getUserName(): ...", "def parse_config_file(): ..."]
    split = Bm25(Bm25Settings(split_identifiers=True)).index(passages)
    assert split.search(["name of the user", "configuration files"], 1)[1].ravel().tolist() == [0, 1]
    assert split.search(["the user"], 1)[0].max() > 0
    assert Bm25(Bm25Settings(split_identifiers=False)).index(passages).search(["user"], 1)[0].max() == 0


def test_k_larger_than_the_corpus_and_stable_ties():
    scores, rows = Bm25(PLAIN).index(["same words", "same words", "other", "same words"]).search(["same"], 99)
    assert rows.tolist() == [[0, 1, 3, 2]]
    assert scores[0, 0] == scores[0, 1] == scores[0, 2] > scores[0, 3] == 0


@pytest.mark.parametrize("query", ["", "   ", "unseen", "!?", "the"])
def test_a_query_without_a_known_term_scores_zero(query):
    scores, rows = Bm25(Bm25Settings()).index(["red fish", "blue dog"]).search([query], 2)
    assert scores.tolist() == [[0, 0]] and rows.tolist() == [[0, 1]]


def test_passages_without_a_term():
    scores, rows = Bm25(PLAIN).index(["", "!", ""]).search(["red"], 2)
    assert scores.tolist() == [[0, 0]] and rows.tolist() == [[0, 1]]
    assert Bm25(PLAIN).index(["", "red fish"]).search(["red"], 1)[1].tolist() == [[1]]


def test_nothing_to_search():
    with pytest.raises(DataError, match="no passage"):
        Bm25(PLAIN).index([])
    with pytest.raises(DataError, match="call index first"):
        Bm25(PLAIN).search(["red"], 1)


def test_says_nothing_and_repeats_itself(capfd):
    passages = [f"word{i % 7} word{i % 11} shared" for i in range(300)]
    first = Bm25(PLAIN).index(passages).search(["word3 shared", "word5"] * 100, 20)
    second = Bm25(PLAIN).index(passages).search(["word3 shared", "word5"] * 100, 20)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert capfd.readouterr() == ("", "")


def test_indexing_again_forgets_the_old_passages():
    bm25 = Bm25(PLAIN).index(["red fish", "blue dog", "green"])
    assert bm25.index(["dog"]).search(["dog", "red"], 5)[0].shape == (2, 1)
    assert bm25.search(["red"], 1)[0][0, 0] == 0
