from __future__ import annotations

import numpy as np
import pytest

from llara_core.errors import DataError, ModelError
from llara_core.retrieval.vectors import content_hash, corpus_vectors
from tests.oracles.fake_encoder import FakeEncoder

PASSAGES = ["red fish", "blue dog", ""]


def test_encoded_once_per_model_and_content(tmp_path):
    encoder = FakeEncoder()
    first = corpus_vectors(encoder, PASSAGES, tmp_path)
    again = corpus_vectors(encoder, PASSAGES, tmp_path)
    np.testing.assert_array_equal(first, again)
    assert encoder.passages_encoded == 3
    corpus_vectors(encoder, [*PASSAGES[:2], "other"], tmp_path)
    assert encoder.passages_encoded == 6
    corpus_vectors(FakeEncoder(fingerprint="fake-2"), PASSAGES, tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 3


def test_without_a_cache_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert corpus_vectors(FakeEncoder(), PASSAGES).shape == (3, 64)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_cache_is_encoded_again(tmp_path):
    encoder = FakeEncoder()
    expected = corpus_vectors(encoder, PASSAGES, tmp_path)
    (path,) = tmp_path.glob("*.npy")
    whole = path.read_bytes()
    for broken in (whole[:50], whole[:-8], b"", b"nonsense"):
        path.write_bytes(broken)
        np.testing.assert_array_equal(corpus_vectors(encoder, PASSAGES, tmp_path), expected)
        assert path.read_bytes() == whole
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_an_interrupted_encoding_leaves_nothing(tmp_path):
    class Interrupted(FakeEncoder):
        def encode_passages(self, passages):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        corpus_vectors(Interrupted(), PASSAGES, tmp_path / "cache")
    assert not list(tmp_path.rglob("*.npy"))


def test_wrong_shapes_and_unwritable_folders(tmp_path):
    encoder = FakeEncoder()
    encoder.encode_passages = lambda passages: np.ones((1, 64), np.float32)
    with pytest.raises(ModelError, match=r"shape \(1, 64\), expected \(3, 64\)"):
        corpus_vectors(encoder, PASSAGES)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError):
        corpus_vectors(FakeEncoder(), PASSAGES, tmp_path / "file" / "cache")


def test_the_hash_sees_order_and_borders():
    assert content_hash(["ab", "c"]) != content_hash(["a", "bc"])
    assert content_hash(["a", "b"]) != content_hash(["b", "a"])
    assert content_hash([]) != content_hash([""])
    assert content_hash(["\ud800"]) == content_hash(["\ud800"])
