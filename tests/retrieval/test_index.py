"""Building, opening and searching an index; refreshing has a file of its own."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from llara_core.errors import ConfigError, DataError, InputError, MissingDependencyError, ModelError
from llara_core.retrieval import exact_bfloat, index_faiss
from llara_core.retrieval.exact import faiss_module, search
from llara_core.retrieval.index import Index, IndexSettings
from tests.oracles.fake_encoder import FakeEncoder

needs_faiss = pytest.mark.skipif(faiss_module() is None, reason="extra cpu or gpu")
APPROXIMATE = [pytest.param(kind, marks=needs_faiss) for kind in ("ivfpq", "hnsw")]
KINDS = ["flat", *APPROXIMATE]


def texts(count, seed=0):
    """Passages of twelve words, each word from one of twenty topics, so that some are near each other."""
    rng = np.random.default_rng(seed)
    return [
        " ".join(f"t{topic}w{word}" for word in rng.integers(0, 40, 12))
        for topic in rng.integers(0, 20, count)
    ]


@pytest.fixture(scope="module")
def corpus():
    passages = texts(1500)
    return [f"d{row}" for row in range(len(passages))], passages


def build(folder, corpus, kind="flat", encoder=None, **settings):
    return Index.build(folder, encoder or FakeEncoder(), *corpus, IndexSettings(kind, **settings))


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_flat_is_exact_search(tmp_path, corpus, shards, dtype):
    encoder = FakeEncoder()
    index = build(tmp_path / "index", corpus, shards=shards, dtype=dtype)
    queries = encoder.encode_queries(corpus[1][:30])
    vectors = encoder.encode_passages(corpus[1]).astype(dtype)
    scores, rows = index.search(queries, 20, encoder)
    expected = search(queries, vectors, 20)
    np.testing.assert_array_equal(rows, expected[1])
    np.testing.assert_array_equal(scores, expected[0])
    assert [index.id_of(row) for row in rows[0, :2]] == [f"d{row}" for row in expected[1][0, :2]]
    assert len(index) == 1500 and index.ids == corpus[0]


@pytest.mark.parametrize("kind", ["flat", *APPROXIMATE])
def test_a_prepared_index_finds_the_same(tmp_path, corpus, kind, monkeypatch):
    monkeypatch.setattr(exact_bfloat, "native", lambda: True)
    encoder = FakeEncoder()
    index = build(tmp_path / "index", corpus, kind=kind)
    queries = encoder.encode_queries(corpus[1][:30])
    before = index.search(queries, 20, encoder)
    assert index.prepare() == (1500 * encoder.dimension * 2 if kind == "flat" else 0)
    after = index.search(queries, 20, encoder)
    np.testing.assert_array_equal(after[1], before[1])
    assert after[0].tobytes() == before[0].tobytes()


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_approximate_scores_are_exact_and_recall_is_reported(tmp_path, corpus, kind, caplog):
    encoder = FakeEncoder()
    with caplog.at_level(logging.INFO, logger="llara_core"):
        index = build(tmp_path / "index", corpus, kind)
    recall = index.manifest["recall"]
    assert f"recall@100 {recall['recall']:.3f} on 200 vectors" in caplog.text
    assert all(f"{name}={value}" in caplog.text for name, value in index.manifest["parameters"].items())
    queries = encoder.encode_queries(corpus[1][:40])
    vectors = encoder.encode_passages(corpus[1])
    scores, rows = index.search(queries, 10, encoder)
    products = np.einsum("qd,qkd->qk", queries.astype(np.float64), vectors[rows].astype(np.float64))
    np.testing.assert_array_equal(scores, products.astype(np.float32))
    assert (np.diff(scores, axis=1) <= 0).all()
    shared = [len(set(a) & set(b)) for a, b in zip(rows, search(queries, vectors, 10)[1], strict=True)]
    assert np.mean(shared) >= 8  # refined candidates: the ten best are nearly always among them


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_reported_recall_is_the_share_of_the_exact_hundred(tmp_path, corpus, kind):
    """Computed anew from search results only, on the vectors that the build takes: 200, evenly spread."""
    encoder = FakeEncoder()
    index = build(tmp_path / "index", corpus, kind)
    vectors = encoder.encode_passages(corpus[1])
    sample = vectors[np.arange(200) * 1500 // 200]
    found, exact = index.search(sample, 100, encoder)[1], search(sample, vectors, 100)[1]
    recall = np.mean([len(set(a) & set(b)) / 100 for a, b in zip(found, exact, strict=True)])
    assert index.manifest["recall"]["recall"] == pytest.approx(recall, abs=1e-4)


@needs_faiss
def test_low_recall_warns(tmp_path, corpus, caplog):
    build(tmp_path / "index", corpus, "ivfpq", parameters={"nprobe": 5, "nlist": 32, "refine": 1})
    assert "raise nprobe" in caplog.text


@needs_faiss
def test_shards_of_ivfpq_find_what_one_does(tmp_path, corpus):
    encoder = FakeEncoder()
    queries = encoder.encode_queries(texts(50, seed=1))
    one, four = (
        build(tmp_path / str(n), corpus, "ivfpq", shards=n).search(queries, 25, encoder) for n in (1, 4)
    )
    np.testing.assert_array_equal(one[1], four[1])
    np.testing.assert_array_equal(one[0], four[0])


@pytest.mark.parametrize("kind", KINDS)
def test_more_results_than_passages(tmp_path, corpus, kind):
    index = build(tmp_path / "index", corpus, kind)
    _, rows = index.search(FakeEncoder().encode_queries(["t1w1"]), 5000, FakeEncoder())
    assert sorted(rows[0]) == list(range(1500))


@pytest.mark.parametrize("kind", KINDS)
def test_opening_gives_the_same_answers_and_encodes_nothing(tmp_path, corpus, kind):
    encoder = FakeEncoder()
    built = build(tmp_path / "index", corpus, kind, encoder)
    assert encoder.passages_encoded == len(set(corpus[1]))
    opened = Index.open(tmp_path / "index", verify=True)
    queries = encoder.encode_queries(corpus[1][5:9])
    for one, other in zip(built.search(queries, 7, encoder), opened.search(queries, 7, encoder), strict=True):
        np.testing.assert_array_equal(one, other)
    assert isinstance(opened._state.vectors.parts[0], np.memmap)
    assert encoder.passages_encoded == len(set(corpus[1]))
    assert [path.name for path in tmp_path.iterdir()] == ["index"]  # no cache, no half-written sibling


def test_another_model_is_refused_by_name(tmp_path, corpus):
    index = Index.build(tmp_path / "index", FakeEncoder(), *corpus, template="slots-1")
    wide = FakeEncoder(dimension=32)
    with pytest.raises(
        ModelError, match=r"model fake-1 \(64 dimensions, template slots-1\).*this is the model o"
    ):
        index.search(np.ones((1, 64), np.float32), 3, FakeEncoder(fingerprint="other"))
    with pytest.raises(ModelError, match="32 dimensions"):
        index.search(wide.encode_queries(["a"]), 3, wide)
    with pytest.raises(ModelError, match="do not mix"):
        index.search(np.ones((1, 64), np.float32), 3, "other")
    with pytest.raises(ModelError, match="do not mix"):
        index.refresh(FakeEncoder(fingerprint="other"), *corpus)
    assert index.search(np.ones((1, 64), np.float32), 3, "fake-1")[1].shape == (1, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_unusable_queries_are_refused(tmp_path, corpus, kind):
    index = build(tmp_path / "index", corpus, kind)
    with pytest.raises(InputError, match="at least 1, got 0"):
        index.search(np.ones((1, 64), np.float32), 0, "fake-1")
    with pytest.raises(InputError, match="NaN"):
        index.search(np.full((1, 64), np.nan, np.float32), 3, "fake-1")
    with pytest.raises(InputError, match="expected queries"):
        index.search(np.ones(64, np.float32), 3, "fake-1")


def test_fingerprint_and_facts_of_the_manifest(tmp_path, corpus):
    manifest = Index.build(tmp_path / "index", FakeEncoder(), *corpus, template="slots-1").manifest
    assert manifest["fingerprint"].keys() == {"model", "template", "dimension", "corpus"}
    assert (manifest["kind"], manifest["parameters"], manifest["documents"]) == ("flat", {}, 1500)
    hashes = {manifest["fingerprint"]["corpus"]}
    for ids, passages in [(corpus[0], [*corpus[1][:-1], "x"]), (["x", *corpus[0][1:]], corpus[1])]:
        again = Index.build(tmp_path / "index", FakeEncoder(), ids, passages)
        hashes.add(again.manifest["fingerprint"]["corpus"])
    assert len(hashes) == 3


def test_a_folder_that_is_no_index(tmp_path):
    with pytest.raises(DataError, match="not an index"):
        Index.open(tmp_path)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="holds something else"):
        Index.build(tmp_path, FakeEncoder(), ["a"], ["b"])
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["vectors-00001.npy", "ids.arrow", "hashes.npy"])
@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda raw: raw[: len(raw) // 2], "is cut off or changed"),
        (lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "was changed"),
        (None, "is missing"),
    ],
)
def test_damage_is_named(tmp_path, corpus, name, harm, said):
    build(tmp_path / "index", corpus, shards=2)
    path = next((tmp_path / "index").glob(f"state-*/{name}"))
    raw = path.read_bytes()
    path.unlink()
    if harm is not None:
        path.write_bytes(harm(raw))
    with pytest.raises(DataError, match=rf"{name}.*damaged.*{said}"):
        Index.open(tmp_path / "index")


@needs_faiss
def test_a_changed_faiss_file_is_never_read(tmp_path, corpus, monkeypatch):
    build(tmp_path / "index", corpus, "ivfpq")
    path = next((tmp_path / "index").glob("state-*/faiss-*.index"))
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    monkeypatch.setattr(index_faiss.Approximate, "open", lambda *_: pytest.fail("was read"))
    with pytest.raises(DataError, match="was changed"):
        Index.open(tmp_path / "index", verify=False)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda text: text[: len(text) // 2], "cut off"),
        (lambda text: text.replace("fake-1", "fake-2"), "a value was changed"),
        (lambda text: "[]", "a value was changed"),
    ],
)
def test_a_damaged_manifest(tmp_path, corpus, harm, said):
    build(tmp_path / "index", corpus)
    path = tmp_path / "index" / "index.json"
    path.write_text(harm(path.read_text()))
    with pytest.raises(DataError, match=said):
        Index.open(tmp_path / "index")


def test_nothing_is_pickled(tmp_path, corpus):
    build(tmp_path / "index", corpus)
    assert {path.suffix for path in (tmp_path / "index").rglob("*") if path.is_file()} == {
        ".json",
        ".npy",
        ".arrow",
    }
    assert json.loads((tmp_path / "index" / "index.json").read_text())["format"] == 1


@pytest.mark.parametrize("shards", [1, 3])
def test_empty_corpus_and_single_passage(tmp_path, shards):
    encoder = FakeEncoder()
    empty = Index.build(tmp_path / "none", encoder, [], [], IndexSettings(shards=shards))
    assert empty.search(encoder.encode_queries(["a"]), 5, encoder)[1].shape == (1, 0)
    one = Index.build(tmp_path / "one", encoder, ["x"], ["a b"], IndexSettings(shards=shards))
    scores, rows = one.search(encoder.encode_queries(["a b"]), 5, encoder)
    assert rows.tolist() == [[0]] and scores[0, 0] == pytest.approx(1)


@pytest.mark.parametrize(
    ("ids", "settings", "error", "said"),
    [
        (["a", "a"], IndexSettings(), DataError, "the id 'a' stands for several"),
        (["a"], IndexSettings(), DataError, "got 1 ids and 2 passages"),
        (["a", "b"], IndexSettings(shards=0), ConfigError, "at least 1 shard"),
        (["a", "b"], IndexSettings(dtype="int8"), ConfigError, "'int8'"),
        (["a", "b"], IndexSettings(kind="tree"), ConfigError, "unknown kind"),
    ],
)
def test_unusable_input(tmp_path, ids, settings, error, said):
    with pytest.raises(error, match=said):
        Index.build(tmp_path / "index", FakeEncoder(), ids, ["p", "q"], settings)
    assert not (tmp_path / "index").exists()


def test_without_faiss_flat_works_and_the_others_say_what_to_install(tmp_path, corpus, monkeypatch):
    for module in ("exact", "index_faiss", "index_state"):
        monkeypatch.setattr(f"llara_core.retrieval.{module}.faiss_module", lambda: None)
    index = build(tmp_path / "index", corpus)
    assert index.search(np.ones((1, 64), np.float32), 3, "fake-1")[1].shape == (1, 3)
    with pytest.raises(MissingDependencyError, match="install the extra"):
        build(tmp_path / "other", corpus, "hnsw")


@pytest.mark.gpu
def test_gpus_find_what_the_cpu_finds(tmp_path, corpus):
    faiss = faiss_module()
    if faiss is None or not faiss.get_num_gpus():
        pytest.skip("FAISS without a GPU")
    encoder = FakeEncoder()
    queries = encoder.encode_queries(texts(50, seed=1))
    flat = build(tmp_path / "flat", corpus).search(queries, 25, encoder)
    expected = search(queries, encoder.encode_passages(corpus[1]), 25, use_faiss=False)
    np.testing.assert_array_equal(flat[1], expected[1])
    ivfpq = build(tmp_path / "ivfpq", corpus, "ivfpq", parameters={"nprobe": 64, "nlist": 64})
    _, rows = ivfpq.search(queries, 25, encoder)
    assert np.mean([len(set(a) & set(b)) for a, b in zip(rows, expected[1], strict=True)]) >= 20
