"""A tiny stand-in for a retriever: hashed bags of words, so that shared words make vectors alike."""

from __future__ import annotations

import zlib

import numpy as np


class FakeEncoder:
    """Counts what it encodes, so that tests see whether a cache was used."""

    def __init__(self, dimension: int = 64, fingerprint: str = "fake-1", collapsed: bool = False) -> None:
        self.dimension, self.fingerprint, self.collapsed = dimension, fingerprint, collapsed
        self.passages_encoded = 0

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        for place, text in enumerate(texts):
            for word in text.lower().split():
                vectors[place, zlib.crc32(word.encode()) % self.dimension] += 1
        if self.collapsed:  # an untrained model: all cosines about 1
            vectors = 1000 + vectors
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)

    def encode_passages(self, passages: list[str]) -> np.ndarray:
        self.passages_encoded += len(passages)
        return self.encode_queries(passages)
