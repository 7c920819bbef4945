"""The bfloat16 pass of exact search: the same bits as every other way, and a bound that always holds."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from llara_core.errors import InputError
from llara_core.retrieval import exact, exact_bfloat, exact_prepared
from llara_core.retrieval.exact import search
from llara_core.retrieval.exact_bfloat import BfloatPool, BfloatScanner, worthwhile
from llara_core.retrieval.exact_prepared import Prepared, PreparedScanner

torch = pytest.importorskip("torch")


def drawn(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def clustered(seed, count, dimension=32, share=0.97):
    """Unit vectors of mean cosine `share`, as of a model before its fine-tuning."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=dimension) / dimension**0.5
    vectors = share**0.5 * centre + (1 - share) ** 0.5 * rng.normal(size=(count, dimension)) / dimension**0.5
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def wide_range():
    scales = np.random.default_rng(6).choice([1e-6, 1, 1e6], (5000, 1))
    return (drawn(7, 5000, 24) * scales).astype(np.float32)


def with_copies_and_zeros():
    corpus = drawn(8, 5000, 16)
    corpus[2000:2300] = corpus[:300]
    corpus[4000:4100] = 0
    return corpus


CASES = {
    "plain": (drawn(0, 7, 32), drawn(1, 9000, 32), 20),
    "one query": (drawn(0, 1, 32), drawn(1, 9000, 32), 20),
    "one dimension": (drawn(0, 3, 1), drawn(1, 6000, 1), 5),
    "odd sizes": (drawn(2, 5, 17), drawn(3, 4099, 17), 3),
    "all scores below zero": (-np.abs(drawn(4, 6, 24)), np.abs(drawn(5, 9000, 24)), 30),
    "floors of both signs": (np.concatenate([drawn(4, 3, 24), -np.abs(drawn(4, 3, 24))]),
                             np.abs(drawn(5, 9000, 24)), 30),
    "scores around zero": (drawn(4, 4, 8), np.where(drawn(5, 9000, 8) > 3, drawn(5, 9000, 8), 0), 200),
    "small integers": (np.rint(drawn(6, 5, 6)), np.rint(drawn(7, 9000, 6)), 13),
    "copies and zeros": (drawn(9, 4, 16), with_copies_and_zeros(), 40),
    "a zero query": (np.zeros((2, 16), np.float32), drawn(3, 5000, 16), 40),
    "all the same": (np.ones((3, 4), np.float32), np.ones((9000, 4), np.float32), 20),
    "collapsed": (clustered(10, 9), clustered(11, 9000), 50),
    "hardly collapsed": (clustered(10, 9, share=0.5), clustered(11, 9000, share=0.5), 50),
    "lengths of all sizes": (drawn(9, 4, 24), wide_range(), 40),
    "tiny": (drawn(9, 4, 24), drawn(8, 6000, 24) * np.float32(1e-30), 40),
    "tiny on both sides": (drawn(9, 4, 24) * np.float32(1e-25), drawn(8, 6000, 24) * np.float32(1e-25), 40),
    "subnormal": (drawn(9, 4, 24) * np.float32(1e17), drawn(8, 6000, 24) * np.float32(1e-40), 40),
    "huge": (drawn(9, 4, 24) * np.float32(1e17), drawn(8, 6000, 24) * np.float32(1e17), 40),
    "every document": (drawn(9, 3, 8), drawn(8, 700, 8), 700),
    "more than every document": (drawn(9, 3, 8), drawn(8, 50, 8), 100),
    "float16": (drawn(9, 5, 32), drawn(8, 9000, 32).astype(np.float16), 25),
    "columns first": (drawn(9, 5, 32), np.asfortranarray(drawn(8, 9000, 32)), 25),
    "best last": (np.ones((3, 1), np.float32), np.sort(drawn(2, 20_000, 1), axis=0), 50),
}  # fmt: skip


def rounded_before(corpus):
    return Prepared(corpus, rounded=True)


@pytest.mark.parametrize("ready", [np.asarray, rounded_before])
@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize("name", CASES)
def test_same_bits_as_numpy_in_float32(name, threads, ready, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    queries, corpus, k = CASES[name]
    expected = search(queries, corpus, k, use_faiss=False)
    found = search(queries, ready(corpus), k, use_bfloat16=True)
    np.testing.assert_array_equal(found[1], expected[1])
    assert found[0].tobytes() == expected[0].tobytes()


@pytest.mark.parametrize("ready", [np.asarray, rounded_before])
@pytest.mark.parametrize("seed", range(20))
def test_same_bits_on_drawn_shapes(seed, ready, monkeypatch):
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(exact_bfloat, "BLOCK", int(rng.integers(20, 400)))
    monkeypatch.setattr(exact_bfloat, "QUERY_BLOCK", int(rng.integers(2, 9)))
    count, dimension = int(rng.integers(1, 3000)), int(rng.integers(1, 70))
    queries = drawn(seed, int(rng.integers(1, 20)), dimension) + np.float32(rng.choice([0, 0.5]))
    corpus = drawn(seed + 100, count, dimension) + np.float32(rng.choice([-0.3, 0, 0.5]))
    k = int(rng.integers(1, 120))
    expected = search(queries, corpus, k, use_faiss=False)
    found = search(queries, ready(corpus), k, use_bfloat16=True)
    np.testing.assert_array_equal(found[1], expected[1])
    assert found[0].tobytes() == expected[0].tobytes()


@pytest.mark.parametrize("ready", [np.asarray, rounded_before])
def test_a_mapped_file_is_read_without_a_warning(tmp_path, ready):
    np.save(tmp_path / "half.npy", drawn(1, 9000, 16).astype(np.float16))
    corpus = np.load(tmp_path / "half.npy", mmap_mode="r")
    queries = drawn(2, 3, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = search(queries, ready(corpus), 10, use_bfloat16=True)
    np.testing.assert_array_equal(found[1], search(queries, np.asarray(corpus), 10, use_faiss=False)[1])


@pytest.mark.parametrize("ready", [np.asarray, rounded_before])
@pytest.mark.parametrize("row", [0, 4500, 8999])
@pytest.mark.parametrize(
    ("value", "said"), [(np.nan, "NaN or infinity"), (np.inf, "NaN"), (1e30, "normalise")]
)
def test_unusable_vectors_are_refused(row, value, said, ready):
    corpus = np.ones((9000, 6), np.float32) * drawn(0, 9000, 1)
    corpus[row, 3] = value
    with pytest.raises(InputError, match=said):
        search(drawn(1, 2, 6), ready(corpus), 2, use_bfloat16=True)


def halfway(seed, count, dimension):
    """Numbers just beside the middle of two neighbouring bfloat16 numbers, where rounding errs most."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0x3F00, 0x4080, (count, dimension)).astype(np.uint32) << 16
    bits |= np.where(rng.random((count, dimension)) < 0.5, 0x7FFF, 0x8001).astype(np.uint32)
    signs = rng.choice([-1, 1], (count, dimension)).astype(np.float32)
    return bits.view(np.float32) * signs


@pytest.mark.parametrize("ready", [np.asarray, rounded_before])
@pytest.mark.parametrize("measured_from", [0, 512])
@pytest.mark.parametrize("writeable", [True, False])
@pytest.mark.parametrize("dimension", [1, 16, 256])
def test_the_bound_holds_where_rounding_errs_most(dimension, writeable, measured_from, ready, monkeypatch):
    """Aligned errors: every component of a document is rounded away from the query's sign, or towards it."""
    queries, corpus = halfway(1, 8, dimension), halfway(2, 400, dimension)
    for place in range(8):  # nearly the query itself, each component off by less than a step
        corpus[place * 50 : place * 50 + 25] = np.abs(corpus[place * 50 : place * 50 + 25]) * np.sign(
            queries[place]
        )
    monkeypatch.setattr(exact_bfloat, "MEASURED_FROM", measured_from)
    for module in (exact_bfloat, exact_prepared):
        monkeypatch.setattr(module, "PIECE", 150)  # the last of three is a short one
    corpus.flags.writeable = writeable
    pool = BfloatPool(queries, 1, 500)
    scanner = PreparedScanner if ready is rounded_before else BfloatScanner
    hits = scanner(queries, ready(corpus), pool)(0, 400)
    pool.add(hits)
    true = queries.astype(np.float64) @ corpus.T.astype(np.float64)
    # A document whose true product is not below the k-th best one's must have come through the floor.
    for place in range(8):
        through = set(hits.row[hits.query == place].tolist())
        assert int(true[place].argmax()) in through
    products = (pool.rounded.double() @ torch.from_numpy(corpus).bfloat16().double().T).numpy()
    error = np.abs(products - true)
    allowed = pool._by_length[:, None] * pool.longest + pool._by_rounding[:, None] * pool.rounding
    assert (error <= allowed).all()
    assert error.max() > (0.2 * allowed.max() if dimension == 1 else 0)  # it is not idle


def test_every_floor_is_marked_as_floats_compare():
    """All bfloat16 numbers against floors of either sign, between the numbers and on them."""
    bits = np.arange(0x10000, dtype=np.uint16)
    values = (bits.astype(np.uint32) << 16).view(np.float32)
    finite = np.isfinite(values)
    bits, values = bits[finite], values[finite]
    floors = np.array(
        [0, -0.0, 1, -1, 1.0039, -1.0039, 1e-40, -1e-40, 3e38, -3e38, -np.inf, np.inf], np.float32
    )
    for each in ([place] for place in range(len(floors))):
        above = np.empty((len(each), len(bits)), bool)
        shift = exact_bfloat._mark(np.tile(bits, (len(each), 1)).view(np.int16), floors[each], above)
        low = exact_bfloat._floats(exact_bfloat._bits_below(floors[each]))
        np.testing.assert_array_equal(above, values[None] >= low[:, None])
        assert (above | ~(values[None] >= floors[each][:, None])).all() and len(shift) == len(each)
        assert (low <= floors[each]).all()


@pytest.mark.parametrize("k", [1, 7, 50])
def test_the_kth_of_a_block(k):
    values = torch.from_numpy(drawn(0, 9, 50)).bfloat16()
    kth = exact_bfloat._kth(values.view(torch.int16).numpy(), k)
    np.testing.assert_array_equal(kth, np.sort(values.float().numpy(), axis=1)[:, 50 - k])


def test_collapsed_vectors_are_given_up_after_one_block(monkeypatch):
    looked = []
    scan = BfloatScanner.__call__
    monkeypatch.setattr(BfloatScanner, "__call__", lambda self, *at: looked.append(at) or scan(self, *at))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    corpus, queries = clustered(1, 40_000, share=0.99), clustered(2, 4, share=0.99)
    search(queries, corpus, 50, use_bfloat16=True)
    assert looked == [(0, 4096)]
    looked.clear()
    search(drawn(3, 4, 32), drawn(4, 40_000, 32), 50, use_bfloat16=True)
    assert looked[-1][1] == 40_000


def test_queries_that_overflow_are_searched_again_alone(monkeypatch):
    """One query of twenty ties with everything; the others keep their coarse candidates."""
    scanned = []
    plain = exact._scan
    monkeypatch.setattr(exact, "_scan", lambda *given: scanned.append(len(given[0])) or plain(*given))
    queries = drawn(1, 20, 32)
    queries[4] = 0
    corpus = drawn(2, 9000, 32)
    found = search(queries, corpus, 20, use_bfloat16=True)
    assert scanned == [1]
    np.testing.assert_array_equal(found[1], search(queries, corpus, 20, use_faiss=False)[1])


def test_worthwhile_asks_the_processor_and_the_size(monkeypatch):
    monkeypatch.setattr(exact_bfloat, "native", lambda: True)
    assert worthwhile((1000, 256), 100_000, 100)
    assert not worthwhile((1000, 256), 10_000, 100)  # small
    assert worthwhile((64, 256), 100_000, 100)
    assert not worthwhile((64, 256), 30_000, 100)  # small for so few
    assert not worthwhile((20, 256), 10_000_000, 100)  # few queries
    assert not worthwhile((1000, 32), 1_000_000, 100)  # short vectors
    assert not worthwhile((100_000, 256), 5000, 1000)  # nearly all are results
    monkeypatch.setattr(exact_bfloat, "native", lambda: False)
    assert not worthwhile((1000, 256), 100_000, 100)


def test_native_without_torch_or_without_its_private_names(monkeypatch):
    assert exact_bfloat.native() in (True, False)
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert exact_bfloat.native() is False
    monkeypatch.delitem(exact_bfloat.sys.modules, "torch")
    assert exact_bfloat.native() is False
