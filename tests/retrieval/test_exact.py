from __future__ import annotations

import sys

import numpy as np
import pytest

from llara_core.errors import InputError
from llara_core.retrieval import exact
from llara_core.retrieval.exact import search, top_k

WAYS = [
    pytest.param(True, id="faiss", marks=pytest.mark.skipif(not exact._faiss(), reason="extra cpu or gpu")),
    pytest.param(False, id="numpy"),
]


def brute(queries, corpus, k):
    """Sort every score of every query; ties by row."""
    scores = (queries[:, None, :].astype(np.float64) * corpus[None].astype(np.float64)).sum(-1)
    scores = scores.astype(np.float32)
    rows = np.stack([np.lexsort((np.arange(len(corpus)), -s)) for s in scores])[:, :k]
    return np.take_along_axis(scores, rows, axis=1), rows


@pytest.mark.parametrize("faiss", WAYS)
@pytest.mark.parametrize(("count", "k"), [(1, 1), (7, 100), (300, 10), (300, 300), (301, 299)])
def test_equals_sorting_everything(faiss, count, k):
    rng = np.random.default_rng(count + k)
    queries, corpus = rng.normal(size=(9, 16)), rng.normal(size=(count, 16))
    queries, corpus = queries.astype(np.float32), corpus.astype(np.float32)
    scores, rows = search(queries, corpus, k, use_faiss=faiss)
    expected_scores, expected_rows = brute(queries, corpus, k)
    assert rows.dtype == np.int64 and scores.dtype == np.float32
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-6)


@pytest.mark.parametrize("faiss", WAYS)
def test_ties_go_to_the_lower_row_even_past_the_candidates(faiss):
    """Sixty copies of one vector, shuffled among others: far more ties than spare candidates."""
    rng = np.random.default_rng(0)
    corpus = rng.normal(size=(200, 8)).astype(np.float32)
    copies = np.sort(rng.permutation(200)[:60])
    corpus[copies] = corpus[copies[0]] * 0 + 3
    queries = np.ones((3, 8), np.float32)
    scores, rows = search(queries, corpus, 5, use_faiss=faiss)
    np.testing.assert_array_equal(rows, np.tile(copies[:5], (3, 1)))
    assert (scores == 24).all()


@pytest.mark.parametrize("faiss", WAYS)
def test_a_collapsed_model_gives_rows_in_order(faiss):
    corpus = np.ones((500, 4), np.float32) / 2
    _, rows = search(corpus[:2], corpus, 20, use_faiss=faiss)
    np.testing.assert_array_equal(rows, np.tile(np.arange(20), (2, 1)))


def test_blocks_do_not_change_the_answer(monkeypatch):
    rng = np.random.default_rng(1)
    queries = rng.integers(-2, 3, (11, 6)).astype(np.float32)  # small integers: ties everywhere
    corpus = rng.integers(-2, 3, (97, 6)).astype(np.float32)
    monkeypatch.setattr(exact, "_QUERY_BLOCK", 4)
    monkeypatch.setattr(exact, "_CORPUS_BLOCK", 10)
    monkeypatch.setattr(exact, "_FAISS_QUERY_BLOCK", 5)
    monkeypatch.setattr(exact, "_SETTLED_NUMBERS", 300)
    for faiss in (False, None):
        scores, rows = search(queries, corpus, 13, use_faiss=faiss)
        expected_scores, expected_rows = brute(queries, corpus, 13)
        np.testing.assert_array_equal(rows, expected_rows)
        np.testing.assert_array_equal(scores, expected_scores)


def test_works_without_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(exact.importlib.util, "find_spec", lambda name: None)
    scores, rows = search(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), 1)
    assert rows.ravel().tolist() == [0, 1, 2] and scores.ravel().tolist() == [1, 1, 1]


def test_faiss_uses_blas_for_small_batches():
    faiss = pytest.importorskip("faiss", reason="extra cpu or gpu")
    faiss.cvar.distance_compute_blas_threshold = 128_000
    search(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), 1)
    assert faiss.cvar.distance_compute_blas_threshold == 20


def test_empty_sides():
    none, some = np.zeros((0, 3), np.float32), np.ones((2, 3), np.float32)
    assert search(none, some, 5)[1].shape == (0, 2)
    assert search(some, none, 5)[1].shape == (2, 0)


@pytest.mark.parametrize(
    ("queries", "corpus", "k", "said"),
    [
        (np.ones((1, 3)), np.ones((2, 4)), 1, "same model"),
        (np.ones(3), np.ones((2, 3)), 1, "expected queries"),
        (np.ones((1, 3)), np.ones((2, 3)), 0, "at least 1, got 0"),
        (np.full((1, 3), np.nan), np.ones((2, 3)), 1, "NaN"),
        (np.ones((1, 3)), np.full((2, 3), np.inf), 1, "infinity"),
    ],
)
def test_unusable_input_is_refused(queries, corpus, k, said):
    with pytest.raises(InputError, match=said):
        search(queries, corpus, k)


def test_top_k_settles_ties_by_column():
    values, columns = top_k(np.array([[1, 3, 3, 2, 3], [0, 0, 0, 0, 0]], np.float32), 2)
    assert columns.tolist() == [[1, 2], [0, 1]]
    assert values.tolist() == [[3, 3], [0, 0]]
