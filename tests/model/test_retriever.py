"""The Retriever on a tiny model from scratch."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from llara_core.errors import ModelError
from llara_core.model import retriever as module
from llara_core.model.prepare import prepare_base
from llara_core.model.retriever import Retriever
from tests.model.conftest import WORDS, collection, settings

ODD = {
    "empty": "",
    "white space": " \n\t ",
    "NUL": "\0",
    "NUL in words": "nul \0 byte",
    "lone surrogate": "\ud800",
    "surrogate in words": "\udfff broken \ud800",
    "not a character": "\uffff\U0010ffff",
    "one character": "x",
    "long": "word " * 400,
    "one long word": "x" * 5000,
}


@pytest.fixture(scope="module")
def retriever(base: Path) -> Retriever:
    return Retriever.from_pretrained(base, device="cpu")


def test_test_queries_do_not_shape_the_vocabulary(retriever: Retriever) -> None:
    tokens = retriever.tokenizer.get_vocab()
    assert "server" in tokens and "zebra" not in tokens


def test_vectors_are_normalised_and_do_not_depend_on_the_batch(retriever: Retriever) -> None:
    texts = [*WORDS, *ODD.values()]
    together = retriever.encode_passages(texts)
    assert together.shape == (len(texts), retriever.dimension) and together.dtype == np.float32
    alone = np.concatenate([retriever.encode_passages([text], batch_tokens=1) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert not np.allclose(retriever.encode_queries(WORDS), together[:4], atol=1e-3)  # another prompt
    titled = retriever.encode_passages([{"title": "open", "text": "a file"}, {"text": "open a file"}])
    np.testing.assert_allclose(titled[0], titled[1], atol=1e-6)


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_odd_texts_get_sound_vectors(retriever: Retriever, text: str) -> None:
    for vectors in (retriever.encode_passages([text]), retriever.encode_queries([text])):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_no_text_at_all(retriever: Retriever) -> None:
    assert retriever.encode_queries([]).shape == (0, retriever.dimension)
    assert retriever.encode_passages([]).shape == (0, retriever.dimension)


def test_a_hundred_thousand_single_characters(tmp_path: Path) -> None:
    prepare_base(
        settings(template="slots"), collection(), tmp_path / "base", seed=0
    )  # a prompt would take 30 s
    retriever = Retriever.from_pretrained(tmp_path / "base", device="cpu")
    alphabet = "abcdefghij"
    vectors = retriever.encode_passages([alphabet[number % 10] for number in range(100_000)])
    assert vectors.shape == (100_000, retriever.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(vectors[-10:], retriever.encode_passages([*alphabet]), atol=1e-6)


def test_the_slots_survive_a_cut(retriever: Retriever, caplog: pytest.LogCaptureFixture) -> None:
    length = retriever.passage_length
    long = "open a file " * 100
    with caplog.at_level(logging.INFO, logger="llara_core"):
        vectors = retriever.encode_passages([long, long + "and more", "open a file"])
    np.testing.assert_array_equal(vectors[0], vectors[1])  # only text that is cut off differs
    assert f"2 of 3 passages were cut at {length} tokens" in caplog.text
    (row,), cut = retriever.encoder.encode_counted([long], "passage")
    assert cut == 1 and row[-len(retriever.encoder.ebae_suffix_ids) :] == retriever.encoder.ebae_suffix_ids
    assert len(row) == len(retriever.encoder.prefix_ids) + length + len(retriever.encoder.ebae_suffix_ids)


def test_blocks_are_encoded_by_themselves(retriever: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(WORDS[: 1 + number % 4]) + f" {number}" for number in range(23)]
    monkeypatch.setattr(module, "TEXTS_AT_A_TIME", 5)
    whole = retriever.encode_passages(texts, batch_tokens=64)
    counted: list[int] = []
    blocks = [texts[start : start + 5] for start in range(0, 23, 5)]
    parts = list(retriever.encode_blocks(iter(blocks), batch_tokens=64, on_texts=counted.append))
    np.testing.assert_array_equal(np.concatenate([part.vectors for part in parts]), whole)
    assert sum(counted) == 23 and sum(part.tally.texts for part in parts) == 23
    tally = parts[0].tally
    rows, cut = retriever.encoder.encode_counted(blocks[0], "passage")
    assert (tally.tokens, tally.cut) == (sum(map(len, rows)), cut)
    assert tally.tokens <= tally.padded <= 5 * max(map(len, rows))


def test_threads_may_share_a_retriever(retriever: Retriever) -> None:
    texts = [" ".join(WORDS[: 1 + number % 4]) + f" {number}" for number in range(40)]
    ways = [retriever.encode_queries, retriever.encode_passages]  # cut at different lengths
    wanted = [way(texts, batch_tokens=64) for way in ways]
    with ThreadPoolExecutor(4) as pool:
        runs = pool.map(lambda number: ways[number % 2](texts, batch_tokens=64), range(12))
        for number, found in enumerate(runs):
            np.testing.assert_array_equal(found, wanted[number % 2])


def test_tokenising_in_advance_changes_nothing() -> None:
    done: list[str] = []

    def work(texts: list[str]) -> tuple[list[np.ndarray], int]:
        done.append(texts[0])
        return [np.array([int(texts[0])], np.int32)], 0

    blocks = [[str(number)] for number in range(7)]
    for ahead in (0, 1, 3):
        found = [int(rows[0][0]) for rows, _ in module.in_advance(iter(blocks), work, ahead)]
        assert found == list(range(7))
    assert len(done) == 21
    assert list(module.in_advance(iter([]), work, 1)) == []


def test_a_broken_model_is_named_by_the_row(base: Path) -> None:
    broken = Retriever.from_pretrained(base, device="cpu")
    table = broken._decoder.get_input_embeddings().weight
    others = ["open a file", "", "of two numbers"]
    used = {
        token
        for kind in ("query", "passage")
        for row in broken.encoder.encode_batch(others, kind)
        for token in row
    }
    token = next(token for token in broken.encoder.text_ids(["class"])[0] if token not in used)
    with torch.no_grad():
        table[token] = float("nan")
    with pytest.raises(ModelError, match=r"row 2 \(counted from 0\).* 1 of 4 did; its text begins 'class'"):
        broken.encode_passages([*others[:2], "class", others[2]])
    with pytest.raises(ModelError, match=r"row 1 .*begins 'class'"):
        broken.encode_queries([others[0], "class"])


def test_the_mask_is_kept_where_it_is_needed(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    retriever = Retriever.from_pretrained(base, device="cpu")
    lean = retriever.encode_passages(WORDS)
    monkeypatch.setattr(module, "sees_no_padding", lambda decoder: False)
    monkeypatch.setattr("llara_core.model.last_layer.SLOTS_SUFFICE", frozenset())
    np.testing.assert_allclose(retriever.encode_passages(WORDS), lean, atol=1e-6)


def test_threads_may_encode_while_others_load(base: Path, tmp_path: Path) -> None:
    """Eight threads, one retriever; beside them others load models, of another dtype, too.

    transformers sets torch's default dtype for the whole process while it loads, and restores it afterwards.
    """
    half = tmp_path / "half"
    prepare_base(settings(dtype="bfloat16"), collection(), half, seed=0)
    shared = Retriever.from_pretrained(base, device="cpu")
    texts = [" ".join(WORDS[: 1 + number % 4]) + f" {number}" for number in range(24)]
    alone = {False: shared.encode_queries(texts), True: shared.encode_passages(texts)}
    halves = Retriever.from_pretrained(half, device="cpu").encode_queries(texts)
    loading = threading.Event()
    loaded: list[Retriever] = []

    def load() -> None:
        while not loading.is_set():
            loaded.append(Retriever.from_pretrained(half if len(loaded) % 2 else base, device="cpu"))

    def encode(number: int) -> None:
        passages = bool(number % 2)
        way = shared.encode_passages if passages else shared.encode_queries
        for _ in range(10):
            np.testing.assert_array_equal(way(texts), alone[passages])

    loaders = [threading.Thread(target=load) for _ in range(2)]
    for loader in loaders:
        loader.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(encode, range(8)))
    finally:
        loading.set()
        for loader in loaders:
            loader.join()
    assert len(loaded) > 1
    for one in loaded[:6]:
        found = one.encode_queries(texts)
        np.testing.assert_array_equal(found, halves if one.bundle.dtype == "bfloat16" else alone[False])
    assert torch.get_default_dtype() == torch.float32
