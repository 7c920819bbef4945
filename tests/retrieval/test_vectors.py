"""Vectors of a corpus: cached, resumable, each text encoded once, the same bytes however they came about."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from llara_core.errors import DataError, ModelError
from llara_core.retrieval import vector_store
from llara_core.retrieval.hashes import passage_hashes
from llara_core.retrieval.vector_rows import find_rows, first_rows
from llara_core.retrieval.vectors import content_hash, corpus_vectors, stored_vectors
from tests.oracles.fake_encoder import FakeEncoder
from tests.retrieval import killed_encoding

PASSAGES = ["red fish", "blue dog", ""]
ROOT = Path(__file__).resolve().parents[2]


def folders(cache: Path) -> list[Path]:
    return sorted(path for path in cache.iterdir() if not path.name.startswith("."))


def test_encoded_once_per_model_and_content(tmp_path):
    encoder = FakeEncoder()
    first = corpus_vectors(encoder, PASSAGES, tmp_path)
    again = corpus_vectors(encoder, PASSAGES, tmp_path)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, FakeEncoder().encode_passages(PASSAGES))
    assert encoder.passages_encoded == 3
    assert isinstance(again, np.memmap) and not again.flags.writeable and again.dtype == np.float32
    corpus_vectors(FakeEncoder(fingerprint="fake-2"), PASSAGES, tmp_path)
    assert len(folders(tmp_path)) == 2 and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("seed", range(8))
def test_only_new_and_changed_texts_are_encoded(tmp_path, seed):
    random = np.random.default_rng(seed)
    passages = [f"text {number}" for number in random.permutation(60)]
    encoder, seen = FakeEncoder(), set()
    for _ in range(4):
        before = encoder.passages_encoded
        vectors = stored_vectors(encoder, passages, tmp_path, block=7)
        new = {*passages} - seen
        assert encoder.passages_encoded - before == len(new)
        assert vectors.facts["encoded"] == len(new)
        assert vectors.facts["copied"] == len(passages) - len(new)
        np.testing.assert_array_equal(vectors.vectors, FakeEncoder().encode_passages(passages))
        seen |= new
        passages = [text for text in passages if random.random() > 0.2]  # deleted
        passages = [f"{text}!" if random.random() > 0.8 else text for text in passages]  # changed
        passages += [f"new {random.integers(1000)}" for _ in range(5)] + passages[:3]  # new, and doubled
        random.shuffle(passages)


def test_another_dtype_is_another_matrix(tmp_path):
    encoder = FakeEncoder()
    whole = corpus_vectors(encoder, PASSAGES, tmp_path)
    half = corpus_vectors(encoder, PASSAGES, tmp_path, dtype="float16")
    assert half.dtype == np.float16 and encoder.passages_encoded == 6
    np.testing.assert_array_equal(half, whole.astype(np.float16))


def test_the_folder_says_what_it_holds(tmp_path):
    done = stored_vectors(FakeEncoder(), PASSAGES, tmp_path)
    assert done.folder == folders(tmp_path)[0]
    assert {path.name for path in done.folder.iterdir()} == {"vectors.npy", "hashes.npy", "manifest.json"}
    hashes = np.load(done.folder / "hashes.npy")
    assert hashes.dtype == np.uint8 and hashes.shape == (3, 16)
    np.testing.assert_array_equal(hashes, passage_hashes(PASSAGES))
    manifest = json.loads((done.folder / "manifest.json").read_text())
    assert manifest["fingerprint"] == "fake-1" and manifest["done"] == [0]
    assert (manifest["dimension"], manifest["dtype"], manifest["count"]) == (64, "float32", 3)


def test_without_a_cache_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoder = FakeEncoder()
    doubled = corpus_vectors(encoder, [*PASSAGES, *PASSAGES])
    assert doubled.shape == (6, 64) and encoder.passages_encoded == 3
    np.testing.assert_array_equal(doubled[:3], doubled[3:])
    assert corpus_vectors(encoder, []).shape == (0, 64)
    assert corpus_vectors(encoder, [], tmp_path).shape == (0, 64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["vectors.npy", "hashes.npy", "manifest.json"])
def test_broken_vectors_are_encoded_again(tmp_path, name):
    encoder = FakeEncoder()
    expected = np.array(corpus_vectors(encoder, PASSAGES, tmp_path))
    (folder,) = folders(tmp_path)
    whole = (folder / name).read_bytes()
    for broken in (whole[:50], whole[:-8], b"", b"nonsense", b"[]", None):
        if broken is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(broken)
        np.testing.assert_array_equal(corpus_vectors(encoder, PASSAGES, tmp_path), expected)
        assert (folder / name).read_bytes() == whole
        assert folders(tmp_path) == [folder]


def test_an_interrupted_encoding_is_gone_on_with(tmp_path):
    class Interrupted(FakeEncoder):
        def encode_passages(self, passages):
            if self.passages_encoded >= 4:
                raise KeyboardInterrupt
            return super().encode_passages(passages)

    passages = [f"text {number}" for number in range(9)]
    first, second = Interrupted(), FakeEncoder()
    with pytest.raises(KeyboardInterrupt):
        stored_vectors(first, passages, tmp_path, block=2)
    assert folders(tmp_path) == [] and first.passages_encoded == 4
    done = stored_vectors(second, passages, tmp_path, block=2)
    assert second.passages_encoded == 5
    assert (done.facts["encoded"], done.facts["resumed"]) == (5, 4)
    np.testing.assert_array_equal(done.vectors, FakeEncoder().encode_passages(passages))
    assert len(list(tmp_path.iterdir())) == 1


def test_another_size_of_blocks_starts_anew(tmp_path):
    encoder = FakeEncoder()
    key = vector_store.Key("fake-1", 64, "float32", passage_hashes(PASSAGES))
    partial = vector_store.Partial(tmp_path / f".{key.name}.partial")
    partial.create(key, np.arange(3), block=1)
    partial.manifest["done"] = [0]
    partial.save()
    stored_vectors(encoder, PASSAGES, tmp_path, block=2)
    assert encoder.passages_encoded == 3


def run_killable(cache: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.retrieval.killed_encoding", str(cache), *arguments], cwd=ROOT
    )


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_killed_run_keeps_its_blocks_and_ends_in_the_same_bytes(tmp_path, blocks):
    cache = tmp_path / "cache"
    process = run_killable(cache, "0.05", "--blocks", "6")  # a machine that is late shall not miss it
    wait_for(lambda: finished(cache) >= blocks, process)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = finished(cache)
    assert kept >= blocks and folders(cache) == []
    encoder = killed_encoding.SlowEncoder(0)
    resumed = stored_vectors(encoder, killed_encoding.PASSAGES, cache, block=killed_encoding.BLOCK)
    assert encoder.passages_encoded == len(killed_encoding.PASSAGES) - kept * killed_encoding.BLOCK
    whole = stored_vectors(encoder, killed_encoding.PASSAGES, tmp_path / "whole", block=killed_encoding.BLOCK)
    for name in ("vectors.npy", "hashes.npy"):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_two_processes_encode_the_same_corpus_once(tmp_path):
    processes = [
        run_killable(tmp_path / "cache", "0.02", "--count", str(tmp_path / f"{n}")) for n in range(2)
    ]
    assert [process.wait(300) for process in processes] == [0, 0]
    counts = [int((tmp_path / f"{n}").read_text()) for n in range(2)]
    assert sorted(counts) == [0, len(killed_encoding.PASSAGES)]
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_without_locks_each_works_in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_store, "_lock", lambda path: None)
    with vector_store.workplace(tmp_path, "name") as one, vector_store.workplace(tmp_path, "name") as two:
        assert one != two
    encoder = FakeEncoder()
    np.testing.assert_array_equal(
        corpus_vectors(encoder, PASSAGES, tmp_path), FakeEncoder().encode_passages(PASSAGES)
    )
    assert len(list(tmp_path.iterdir())) == 1


def finished(cache: Path) -> int:
    for manifest in cache.glob(".*.partial/manifest.json"):
        return len(json.loads(manifest.read_text())["done"])
    return 0


def wait_for(condition, process: subprocess.Popen[bytes]) -> None:
    while not condition():
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)


def test_wrong_shapes_and_unwritable_folders(tmp_path):
    encoder = FakeEncoder()
    encoder.encode_passages = lambda passages: np.ones((1, 64), np.float32)
    with pytest.raises(ModelError, match=r"shape \(1, 64\), expected \(3, 64\)"):
        corpus_vectors(encoder, PASSAGES)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError):
        corpus_vectors(FakeEncoder(), PASSAGES, tmp_path / "file" / "cache")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("cached", [True, False])
def test_a_vector_that_is_not_finite_names_its_row(tmp_path, bad, cached):
    class Broken(FakeEncoder):
        def encode_passages(self, passages):
            vectors = super().encode_passages(passages)
            vectors[[text == "blue dog" for text in passages], 3] = bad
            return vectors

    with pytest.raises(ModelError, match=r"row 4 .*begins 'blue dog'"):
        stored_vectors(Broken(), ["a", "b", "c", "a", "blue dog", "d"], tmp_path if cached else None, block=2)
    assert folders(tmp_path) == []


def test_rows_are_found_by_their_hashes():
    texts = ["a", "b", "a", "", "b", "c"]
    hashes = passage_hashes(texts)
    assert first_rows(hashes).tolist() == [0, 1, 0, 3, 1, 5]
    assert first_rows(hashes[:0]).tolist() == []
    known = passage_hashes(["c", "x", "a"])
    assert find_rows(hashes, known).tolist() == [2, -1, 2, -1, -1, 0]
    assert find_rows(hashes, known[:0]).tolist() == [-1] * 6
    alike = np.zeros((2, 16), np.uint8)  # the first half of two hashes may be equal, the whole not
    alike[1, 15] = 1
    assert first_rows(alike).tolist() == [0, 1]
    assert find_rows(alike[1:], alike[:1]).tolist() == [-1]


def test_the_hash_sees_order_and_borders():
    assert content_hash(["ab", "c"]) != content_hash(["a", "bc"])
    assert content_hash(["a", "b"]) != content_hash(["b", "a"])
    assert content_hash([]) != content_hash([""])
    assert content_hash(["\ud800"]) == content_hash(["\ud800"])
    assert (passage_hashes(["\ud800"]) != passage_hashes(["\ud801"])).any()
    assert passage_hashes([]).shape == (0, 16)
