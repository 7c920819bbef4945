"""The Retriever on a tiny model from scratch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from llara_core.model.retriever import Retriever
from tests.model.conftest import WORDS


def test_test_queries_do_not_shape_the_vocabulary(base: Path) -> None:
    tokens = Retriever.from_pretrained(base, "cpu").tokenizer.get_vocab()
    assert "server" in tokens and "zebra" not in tokens


def test_vectors_are_normalised_and_do_not_depend_on_the_batch(base: Path) -> None:
    retriever = Retriever.from_pretrained(base, device="cpu")
    texts = [*WORDS, "", "\ud800 broken", "nul \0 byte", "word " * 400]
    together = retriever.encode_passages(texts)
    assert together.shape == (8, retriever.dimension) and together.dtype == np.float32
    assert np.isfinite(together).all()
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    alone = np.concatenate([retriever.encode_passages([text], batch_tokens=1) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert retriever.encode_queries([]).shape == (0, retriever.dimension)
    assert not np.allclose(retriever.encode_queries(WORDS), together[:4], atol=1e-3)  # another prompt
    titled = retriever.encode_passages([{"title": "open", "text": "a file"}, {"text": "open a file"}])
    np.testing.assert_allclose(titled[0], titled[1], atol=1e-6)
