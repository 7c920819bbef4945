"""Texts and collections to look for leaks in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llara_core.data.collection import Collection
from tests.oracles.tiny_collection import collection


def made_up(count: int, seed: int, length: tuple[int, int] = (8, 25)) -> list[str]:
    """Sentences of 3,000 words, some far more frequent than others."""
    rng = np.random.default_rng(seed)
    return [
        " ".join(f"w{i}" for i in rng.zipf(1.2, rng.integers(*length)) % 3000).capitalize() + "."
        for _ in range(count)
    ]


def asked(queries: Sequence[str], training: Sequence[str] = ()) -> Collection:
    """Test queries and training queries, each with a document of its own that says nothing."""
    texts = {f"q{row}": text for row, text in enumerate(queries)}
    train = {f"t{row}": text for row, text in enumerate(training)}
    qrels = {"test": {name: {"d" + name: 1} for name in texts}}
    if training:
        qrels["train"] = {name: {"d" + name: 1} for name in train}
    return collection(
        {"d" + name: f"passage of {name}" for name in {**texts, **train}}, {**texts, **train}, qrels
    )
