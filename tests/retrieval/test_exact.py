from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from llara_core.errors import InputError
from llara_core.retrieval import exact, exact_scan
from llara_core.retrieval.exact import search, top_k

WAYS = [
    pytest.param(
        True, id="faiss", marks=pytest.mark.skipif(not exact.faiss_module(), reason="extra cpu or gpu")
    ),
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
    monkeypatch.setattr(exact_scan, "QUERY_BLOCK", 4)
    monkeypatch.setattr(exact_scan, "FIRST_BLOCK", 9)
    monkeypatch.setattr(exact_scan, "CORPUS_BLOCK", 10)
    monkeypatch.setattr(exact_scan, "FAISS_BLOCK", 31)
    monkeypatch.setattr(exact, "_LEAST_PLACES", 20)
    monkeypatch.setattr(exact, "_SETTLED_NUMBERS", 300)
    monkeypatch.setattr(exact, "_SETTLED_QUERIES", 2)
    for faiss in (False, None, True) if exact.faiss_module() else (False,):
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


@pytest.mark.parametrize("faiss", WAYS)
@pytest.mark.parametrize(("count", "k"), [(5000, 3), (6000, 100), (9000, 700)])
def test_many_blocks_equal_sorting_everything(faiss, count, k):
    """Past the first block only what lies above the floor is looked at; the floor must cut nothing."""
    rng = np.random.default_rng(count)
    queries, corpus = rng.normal(size=(5, 12)).astype(np.float32), rng.normal(size=(count, 12))
    corpus = corpus.astype(np.float32)
    scores, rows = search(queries, corpus, k, use_faiss=faiss)
    expected_scores, expected_rows = brute(queries, corpus, k)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-6)


@pytest.mark.parametrize("faiss", WAYS)
@pytest.mark.parametrize("ascending", [True, False])
def test_a_corpus_sorted_by_score(faiss, ascending):
    """The worst order: every block is better than all before it, so each one overflows the pool."""
    rng = np.random.default_rng(2)
    corpus = np.sort(rng.normal(size=(20_000, 1)).astype(np.float32), axis=0)
    corpus = corpus if ascending else corpus[::-1].copy()
    queries = np.array([[1.0], [-2.0]], np.float32)
    scores, rows = search(queries, corpus, 50, use_faiss=faiss)
    expected_scores, expected_rows = brute(queries, corpus, 50)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(scores, expected_scores)


@pytest.mark.parametrize("faiss", WAYS)
def test_differences_below_the_rounding_of_a_product(faiss):
    """Vectors that agree to seven digits: a float32 product orders them by chance, the answer must not."""
    rng = np.random.default_rng(3)
    base = rng.normal(size=64)
    corpus = (base + 1e-7 * rng.normal(size=(3000, 64))).astype(np.float32)
    corpus /= np.linalg.norm(corpus, axis=1, keepdims=True)
    queries = np.stack([base, -base, base * 1e3]).astype(np.float32)
    scores, rows = search(queries, corpus, 20, use_faiss=faiss)
    expected_scores, expected_rows = brute(queries, corpus, 20)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(scores, expected_scores)


def test_all_ways_and_blockings_give_the_same_bits(monkeypatch):
    """Long and short vectors, copies, zeros; scores are compared bit by bit."""
    rng = np.random.default_rng(4)
    corpus = rng.normal(size=(2000, 24)).astype(np.float32) * rng.choice([1e-6, 1, 1e6], (2000, 1))
    corpus = corpus.astype(np.float32)
    corpus[500:900] = corpus[:400]
    corpus[1000:1100] = 0
    queries = np.concatenate([rng.normal(size=(7, 24)), np.zeros((1, 24))]).astype(np.float32)
    expected = search(queries, corpus, 40, use_faiss=False)
    assert expected[1][-1].tolist() == list(range(40))  # a zero query ties with everything
    for first, block, places in [(41, 50, 41), (64, 999, 96), (2000, 2000, 3000)]:
        monkeypatch.setattr(exact_scan, "FIRST_BLOCK", first)
        monkeypatch.setattr(exact_scan, "CORPUS_BLOCK", block)
        monkeypatch.setattr(exact_scan, "FAISS_BLOCK", block)
        monkeypatch.setattr(exact, "_LEAST_PLACES", places)
        monkeypatch.setattr(exact, "_PLACES_PER_RESULT", 1)
        for faiss in (False, True) if exact.faiss_module() else (False,):
            for threads in ("1", "3"):
                monkeypatch.setenv("OMP_NUM_THREADS", threads)
                found = search(queries, corpus, 40, use_faiss=faiss)
                np.testing.assert_array_equal(found[1], expected[1])
                assert found[0].tobytes() == expected[0].tobytes()


@pytest.mark.parametrize("way", ["faiss", "numpy", "bfloat16"])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_any_number_of_threads_gives_the_same_bits(way, kind, monkeypatch):
    """Blocks end in whatever order the threads come to them; ties and copies lie in different blocks."""
    pytest.importorskip({"faiss": "faiss", "numpy": "numpy", "bfloat16": "torch"}[way])
    monkeypatch.setattr(exact_scan, "SHARED_FROM", 100)
    rng = np.random.default_rng(7)
    corpus = rng.normal(size=(30_011, 16)).astype(kind)
    corpus[20_000:20_500] = corpus[:500]
    queries = np.concatenate([rng.normal(size=(150, 16)), np.zeros((1, 16))]).astype(np.float32)
    chosen = {"use_bfloat16": True} if way == "bfloat16" else {"use_faiss": way == "faiss"}
    found = []
    for threads in ("1", "2", "3", "4", "2", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        scores, rows = search(queries, corpus, 60, **chosen)
        found.append((scores.tobytes(), rows.tobytes()))
    assert len(set(found)) == 1


def test_a_floor_is_not_published_before_the_error_it_allows_for():
    """Another thread may use it for a block of short vectors before the hits of long ones are added."""
    rng = np.random.default_rng(8)
    queries, corpus = rng.normal(size=(2, 12, 8)).astype(np.float32)
    corpus[:6] *= 1e6
    pool = exact_scan.Pool(queries, 3, 12)
    exact_scan.Scanner(queries, corpus, pool)(0, 6)
    assert np.isfinite(pool.kth).all()
    assert pool.longest == pytest.approx(np.linalg.norm(corpus[:6], axis=1).max(), rel=1e-5)


@pytest.mark.parametrize("faiss", WAYS)
def test_float16_corpus_in_a_file(tmp_path, faiss):
    rng = np.random.default_rng(5)
    np.save(tmp_path / "half.npy", rng.normal(size=(5000, 8)).astype(np.float16))
    corpus = np.load(tmp_path / "half.npy", mmap_mode="r")
    queries = rng.normal(size=(3, 8)).astype(np.float32)
    scores, rows = search(queries, corpus, 30, use_faiss=faiss)
    expected_scores, expected_rows = brute(queries, np.asarray(corpus, np.float32), 30)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-6)


@pytest.mark.parametrize("faiss", WAYS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 1500, 4999])
def test_one_broken_vector_anywhere_is_seen(faiss, value, row):
    corpus = np.ones((5000, 6), np.float32)
    corpus[row, 3] = value
    with pytest.raises(InputError, match="NaN or infinity"):
        search(np.ones((2, 6), np.float32), corpus, 2, use_faiss=faiss)


def test_vectors_too_long_for_float32_products_are_refused():
    with pytest.raises(InputError, match="normalise"):
        search(np.ones((1, 2), np.float32), np.full((3, 2), 1e30, np.float32), 1)


def test_an_error_in_a_thread_reaches_the_caller(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    corpus = np.ones((30_000, 4), np.float32)
    corpus[29_999, 0] = np.nan
    with pytest.raises(InputError, match="document"):
        search(np.ones((1, 4), np.float32), corpus, 1)


PEAK = """
import sys
from pathlib import Path
import numpy as np
from llara_core.retrieval.exact import search

def peak():  # not ru_maxrss, which a child inherits from its parent
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

path, count, faiss = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "True"
corpus = np.load(path, mmap_mode="r")[:count]
queries = np.random.default_rng(0).normal(size=(200, 64)).astype(np.float32)
search(queries, corpus[:2000], 100, use_faiss=faiss)
before = peak()
search(queries, corpus, 100, use_faiss=faiss)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("faiss", WAYS)
def test_memory_does_not_grow_with_the_corpus(tmp_path, faiss):
    """Peaks in processes of their own; the pages of the file itself are subtracted as its size."""
    rng = np.random.default_rng(6)
    path = tmp_path / "corpus.npy"
    np.save(path, rng.standard_normal((400_000, 64), dtype=np.float32).astype(np.float16))

    def extra(count):
        command = [sys.executable, "-c", PEAK, str(path), str(count), str(faiss)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
        )
        return int(done.stdout) / 1024 - count * 64 * 2 / 2**20  # MiB beside the corpus

    small, large = extra(50_000), extra(400_000)
    assert large < small + 16, f"{small:.0f} MiB at 50,000 documents, {large:.0f} MiB at 400,000"
    assert large < 64
