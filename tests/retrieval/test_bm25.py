from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import bm25s
import numpy as np
import pytest
import Stemmer

from llara_core.config import Bm25Settings
from llara_core.errors import DataError
from llara_core.retrieval.bm25 import Bm25, split_identifiers
from llara_core.retrieval.bm25_postings import build_postings
from llara_core.retrieval.bm25_terms import Analyser

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


def texts(count, seed=0):
    """Passages of a few words of few kinds, so that terms repeat within and among them; some are empty."""
    rng = np.random.default_rng(seed)
    words = [f"{'abcdefgh'[i % 8]}word{i}{'ing' * (i % 3)}" for i in range(60)] + ["the", "and", "of"]
    return [
        " ".join(words[i] for i in rng.integers(0, len(words), rng.integers(0, 40))) for _ in range(count)
    ]


@pytest.mark.parametrize("method", ["lucene", "robertson", "atire"])
@pytest.mark.parametrize("block", [1, 97, 1 << 20])
def test_the_index_is_bm25s_own_bit_for_bit(method, block, monkeypatch):
    monkeypatch.setattr("llara_core.retrieval.bm25_postings._BLOCK_TOKENS", block)
    settings = Bm25Settings(k1=0.9, b=0.4, method=method)
    passages = texts(200)
    terms = [Analyser(settings).terms(text) for text in passages]
    numbers = {}
    ids = [[numbers.setdefault(term, len(numbers)) for term in line] for line in terms]
    theirs = bm25s.BM25(k1=0.9, b=0.4, method=method, backend="numpy")
    theirs.index((ids, dict(numbers)), create_empty_token=False, show_progress=False)
    postings, vocabulary = build_postings(iter(passages), Analyser(settings), settings)
    assert list(vocabulary.items()) == list(numbers.items())
    assert postings.passages == theirs.scores["num_docs"] == 200
    for ours, name in ((postings.data, "data"), (postings.rows, "indices"), (postings.starts, "indptr")):
        np.testing.assert_array_equal(ours, theirs.scores[name])
        assert ours.dtype == theirs.scores[name].dtype


def test_the_best_are_bm25s_own_up_to_ties():
    passages = texts(300, seed=1)
    queries = [text for text in texts(30, seed=2) if text]
    ours, rows = Bm25(Bm25Settings()).index(passages).search(queries, 20)
    stemmer = Stemmer.Stemmer("english")
    theirs = bm25s.BM25()
    theirs.index(
        bm25s.tokenize(passages, stopwords="en", stemmer=stemmer, show_progress=False), show_progress=False
    )
    tokens = bm25s.tokenize(queries, stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)
    found = theirs.retrieve(tokens, k=20, show_progress=False)
    np.testing.assert_allclose(ours, found.scores, rtol=1e-5)
    for place in range(len(queries)):
        whole = theirs.get_scores(tokens[place])
        np.testing.assert_allclose(whole[rows[place]], ours[place], rtol=1e-5)
        for here, there in zip(range(19), range(1, 20), strict=True):
            assert ours[place, here] > ours[place, there] or rows[place, here] < rows[place, there]


def test_words_forgotten_on_the_way_keep_their_numbers(monkeypatch):
    passages = texts(100)
    before = Bm25().index(passages).search(passages[:10], 10)
    monkeypatch.setattr("llara_core.retrieval.bm25_terms._REMEMBERED", 5)
    for one, other in zip(before, Bm25().index(passages).search(passages[:10], 10), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("passages", [texts(50), ["", "!"]], ids=["texts", "no term at all"])
def test_saved_and_loaded(tmp_path, passages):
    settings = Bm25Settings(k1=1.2, b=0.5, stem=False, split_identifiers=True, method="atire")
    made = Bm25(settings).index(passages)
    again = Bm25.load(made.save(tmp_path / "index"))
    assert again.settings == settings and again.passages == len(passages)
    queries = [*passages, "unseen", ""]
    for one, other in zip(made.search(queries, 99), again.search(queries, 99), strict=True):
        np.testing.assert_array_equal(one, other)
    made.save(tmp_path / "index")  # an earlier index is replaced
    assert {path.suffix for path in (tmp_path / "index").iterdir()} == {".npy", ".arrow", ".json"}


def test_words_in_any_script_and_broken_characters_are_saved(tmp_path):
    passages = ["Ünïcode straße 東京 données", "broken \ud800half pair\udfff", "привет мир x\x00y"]
    made = Bm25().index(passages)
    again = Bm25.load(made.save(tmp_path / "index"))
    for query, row in (("東京", 0), ("pair", 1), ("мир", 2)):
        assert made.search([query], 1)[1][0, 0] == again.search([query], 1)[1][0, 0] == row
        assert again.search([query], 1)[0][0, 0] > 0


def test_what_is_saved_must_exist_and_belong_to_us(tmp_path):
    with pytest.raises(DataError, match="call index first"):
        Bm25().save(tmp_path / "index")
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(DataError, match="holds something else"):
        Bm25().index(["red"]).save(tmp_path)
    with pytest.raises(DataError, match="not a BM25 index"):
        Bm25.load(tmp_path)
    assert (tmp_path / "precious").read_text() == "mine"


def test_cached_indexes_once(tmp_path, monkeypatch):
    passages = texts(40)
    made = Bm25.cached(passages, None, tmp_path)
    monkeypatch.setattr("llara_core.retrieval.bm25.build_postings", None)  # indexing again would fail
    again = Bm25.cached(list(passages), Bm25Settings(), tmp_path)
    for one, other in zip(made.search(passages, 7), again.search(passages, 7), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("passages", "settings"),
    [
        (["red fish", "blue dog!"], Bm25Settings()),
        (["blue dog", "red fish"], Bm25Settings()),
        (["red fishblue", "dog"], Bm25Settings()),
        (["red fish", "blue dog"], Bm25Settings(k1=1.2)),
        (["red fish", "blue dog"], Bm25Settings(stem=False)),
        (["red fish", "blue dog"], Bm25Settings(stop_words=False)),
    ],
)
def test_another_corpus_or_setting_is_another_index(tmp_path, passages, settings):
    Bm25.cached(["red fish", "blue dog"], Bm25Settings(), tmp_path)
    found = Bm25.cached(passages, settings, tmp_path)
    fresh = Bm25(settings).index(passages)
    for one, other in zip(found.search(passages, 2), fresh.search(passages, 2), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["data.npy", "rows.npy", "starts.npy", "terms.arrow", "bm25.json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "other"])
def test_a_damaged_index_is_refused_and_made_anew_in_the_cache(tmp_path, name, damage, caplog):
    passages = texts(60)
    expected = Bm25.cached(passages, None, tmp_path).search(passages[:5], 9)
    folder = next(tmp_path.iterdir())
    path = folder / name
    if damage == "gone":
        path.unlink()
    elif damage == "other":
        Bm25().index(["one two three", "two"]).save(tmp_path / "other")
        path.write_bytes((tmp_path / "other" / name).read_bytes())
    else:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    with pytest.raises(DataError, match=r"not a BM25 index.*index again"):
        Bm25.load(folder)
    found = Bm25.cached(passages, None, tmp_path)
    assert "indexing again" in caplog.text
    for one, other in zip(expected, found.search(passages[:5], 9), strict=True):
        np.testing.assert_array_equal(one, other)
    assert Bm25.load(folder).passages == 60


def test_another_version_is_refused(tmp_path):
    folder = Bm25().index(["red"]).save(tmp_path / "index")
    facts = json.loads((folder / "bm25.json").read_text())
    (folder / "bm25.json").write_text(json.dumps(facts | {"schema": 99}))
    with pytest.raises(DataError, match="another version"):
        Bm25.load(folder)


SCRIPT = """
import hashlib, sys
from pathlib import Path
from llara_core.retrieval.bm25 import Bm25
passages = [f"word{i % 7} term{i % 11} shared{i % 3} thing{i}" for i in range(300)]
folder = Bm25().index(passages).save(Path(sys.argv[1]))
files = sorted(path for path in folder.iterdir())
print([(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files])
"""


def test_every_process_writes_the_same_bytes(tmp_path):
    outputs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / seed)],
            env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert outputs[0] == outputs[1] and outputs[0].count("npy") == 3


def test_passages_are_read_once_and_in_order():
    def stream():
        yield from ["red fish", "blue dog", "red red"]

    assert Bm25(PLAIN).index(stream()).search(["red"], 1)[1].tolist() == [[2]]
