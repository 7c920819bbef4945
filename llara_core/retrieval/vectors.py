"""Vectors of a corpus, encoded once per model and content and kept on disk beside the run."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llara_core.errors import ModelError
from llara_core.files import new_file

logger = logging.getLogger(__name__)


class Encoder(Protocol):
    """What search needs of a retriever; ``llara_core.model.retriever.Retriever`` is one."""

    @property
    def dimension(self) -> int:
        """Length D of its vectors."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes when anything does that could change a vector."""
        ...

    def encode_queries(self, texts: list[str]) -> NDArray[np.float32]:
        """Vectors of queries, float32 [Q, D]."""
        ...

    def encode_passages(self, passages: list[str]) -> NDArray[np.float32]:
        """Vectors of passages, float32 [N, D]."""
        ...


def content_hash(passages: Sequence[str]) -> str:
    """Return the SHA-256 of the passages in their order; no two lists share one by joining alike."""
    digest = hashlib.sha256()
    for text in passages:
        raw = text.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return digest.hexdigest()


def corpus_vectors(
    encoder: Encoder, passages: Sequence[str], cache: Path | None = None
) -> NDArray[np.float32]:
    """Return the passages' vectors [N, D] float32, from the cache where it has them.

    Args:
        encoder: the model.
        passages: N texts, as ``Collection.passages`` gives them.
        cache: folder of ``<fingerprint>-<content hash>.npy`` files, made when missing; None: no cache.
            A cached array is memory-mapped, read-only.

    Raises:
        ModelError: the encoder gives another shape than [N, D].
        DataError: the cache folder cannot be written.
    """
    if cache is None:
        return _encode(encoder, passages)
    key = hashlib.sha256(encoder.fingerprint.encode()).hexdigest()[:20]
    path = cache / f"{key}-{content_hash(passages)[:20]}.npy"
    if path.is_file():
        vectors = _open(path, (len(passages), encoder.dimension))
        if vectors is not None:
            logger.info("vectors of %d passages taken from %s", len(passages), path.name)
            return vectors
    vectors = _encode(encoder, passages)
    with new_file(path) as partial, partial.open("wb") as file:
        np.save(file, vectors, allow_pickle=False)
    return vectors


def _encode(encoder: Encoder, passages: Sequence[str]) -> NDArray[np.float32]:
    vectors = np.asarray(encoder.encode_passages(list(passages)), np.float32)
    expected = (len(passages), encoder.dimension)
    if vectors.shape != expected:
        raise ModelError(f"the encoder returned vectors of shape {vectors.shape}, expected {expected}")
    return vectors


def _open(path: Path, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    """The cached array, or None when the file is not the array it should be (a cut-off copy, say)."""
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        logger.warning("cached vectors %s cannot be read (%s); encoding again", path, error)
        return None
    if vectors.shape != shape or vectors.dtype != np.float32:
        logger.warning(
            "cached vectors %s are %s of %s, expected %s; encoding again",
            path, vectors.dtype, vectors.shape, shape,
        )  # fmt: skip
        return None
    return np.asarray(vectors)
