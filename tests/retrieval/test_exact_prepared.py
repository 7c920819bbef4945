"""A prepared corpus: when the copy is made and used, and what it must not change."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from llara_core.errors import InputError
from llara_core.retrieval import exact, exact_bfloat, exact_prepared
from llara_core.retrieval.exact import search
from llara_core.retrieval.exact_prepared import Prepared
from llara_core.retrieval.index_vectors import Shards

torch = pytest.importorskip("torch")


def drawn(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def same(found, expected):
    np.testing.assert_array_equal(found[1], expected[1])
    assert found[0].tobytes() == expected[0].tobytes()


@pytest.fixture
def used(monkeypatch):
    """Shapes of the batches of queries that were searched with the copy."""
    seen = []
    scanner = exact.PreparedScanner
    monkeypatch.setattr(
        exact, "PreparedScanner", lambda *given: seen.append(len(given[0])) or scanner(*given)
    )
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return seen


def test_the_copy_is_the_rounded_vectors_and_its_errors_are_measured():
    vectors = drawn(0, 9000, 8) * drawn(1, 9000, 1)
    prepared = Prepared(vectors, rounded=True)
    rounded = torch.from_numpy(vectors).bfloat16()
    assert torch.equal(prepared.rounded, rounded)
    assert prepared.nbytes == 9000 * 8 * 2
    assert len(prepared) == 9000
    pieces = [slice(0, 4096), slice(4096, 8192), slice(8192, 9000)]
    off = np.linalg.norm(rounded.float().numpy() - vectors, axis=1)
    for place, piece in enumerate(pieces):
        assert prepared.longest[place] == pytest.approx(
            np.linalg.norm(vectors[piece], axis=1).max(), rel=1e-6
        )
        assert prepared.errors[place] == pytest.approx(off[piece].max(), rel=1e-6)


@pytest.mark.parametrize("queries", [1, 3, 40])
def test_few_queries_go_by_the_copy(queries, used):
    corpus = drawn(0, 40_000, 64)
    given = drawn(1, queries, 64)
    same(search(given, Prepared(corpus, rounded=True), 10), search(given, corpus, 10, use_faiss=False))
    assert used == [queries]


@pytest.mark.parametrize(("documents", "dimension", "k"), [(5000, 64, 100), (40_000, 16, 10), (900, 64, 1)])
def test_small_searches_do_not(documents, dimension, k, used):
    corpus, given = drawn(0, documents, dimension), drawn(1, 2, dimension)
    same(search(given, Prepared(corpus, rounded=True), k), search(given, corpus, k, use_faiss=False))
    assert used == []


def test_without_native_products_there_is_no_copy(used, monkeypatch):
    monkeypatch.setattr(exact_bfloat, "native", lambda: False)
    corpus, given = drawn(0, 40_000, 64), drawn(1, 3, 64)
    prepared = Prepared(corpus)
    assert prepared.rounded is None and prepared.nbytes == 0
    same(search(given, prepared, 10), search(given, corpus, 10, use_faiss=False))
    assert used == []


def test_whoever_prepares_a_corpus_need_not_have_loaded_torch():
    """What the processor can is asked of torch; a process that only searches has not imported it."""
    program = (
        "import sys, numpy as np\n"
        "from llara_core.retrieval import exact_bfloat\n"
        "from llara_core.retrieval.exact_prepared import Prepared\n"
        "assert 'torch' not in sys.modules\n"
        "prepared = Prepared(np.ones((10, 4), np.float32))\n"
        "assert (prepared.rounded is not None) == exact_bfloat.native()\n"
        "assert 'torch' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_collapsed_corpus_is_given_up_and_searched_in_float32(used):
    one = drawn(2, 1, 64)
    corpus = one + np.float32(1e-3) * drawn(0, 40_000, 64)
    given = one + np.float32(1e-3) * drawn(1, 40, 64)
    same(search(given, Prepared(corpus, rounded=True), 10), search(given, corpus, 10, use_faiss=False))
    assert used == [40]


def test_what_cannot_be_searched_is_refused_when_it_is_prepared():
    corpus = drawn(0, 5000, 8)
    corpus[4999, 2] = np.nan
    with pytest.raises(InputError, match="NaN or infinity"):
        Prepared(corpus, rounded=True)
    with pytest.raises(InputError, match=r"\[N, D\], got an array of shape \(8,\)"):
        Prepared(corpus[0], rounded=True)


def test_an_empty_corpus_finds_nothing():
    scores, rows = search(drawn(0, 2, 8), Prepared(np.zeros((0, 8), np.float32), rounded=True), 5)
    assert scores.shape == rows.shape == (2, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_shards_find_the_same_prepared(dtype, used, monkeypatch):
    monkeypatch.setattr(exact_bfloat, "native", lambda: True)
    parts = [drawn(0, 30_000, 64).astype(dtype), drawn(1, 20_000, 64).astype(dtype)]
    shards, given = Shards(parts), drawn(2, 5, 64)
    before = shards.search(given, 20)
    assert shards.prepare() == 50_000 * 64 * 2
    assert shards.prepare() == 50_000 * 64 * 2  # a second time changes nothing
    same(shards.search(given, 20), before)
    assert used == [5, 5]


def test_pieces_and_blocks_need_not_meet(monkeypatch):
    monkeypatch.setattr(exact_prepared, "PIECE", 700)
    monkeypatch.setattr(exact_bfloat, "BLOCK", 1000)
    corpus, given = drawn(0, 9000, 64), drawn(1, 5, 64)
    found = search(given, Prepared(corpus, rounded=True), 20, use_bfloat16=True)
    same(found, search(given, corpus, 20, use_faiss=False))
