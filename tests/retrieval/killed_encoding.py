"""An encoding slow enough to be killed: folder of the cache, seconds a block, and what the parser says."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from llara_core.retrieval.vectors import stored_vectors
from tests.oracles.fake_encoder import FakeEncoder

BLOCK = 10
PASSAGES = [f"passage {number}" for number in range(95)]


class SlowEncoder(FakeEncoder):
    """Waits before every block, and for good after so many of them."""

    def __init__(self, seconds: float, blocks: int | None = None) -> None:
        super().__init__()
        self.seconds, self.blocks = seconds, blocks

    def encode_passages(self, passages: list[str]) -> np.ndarray:
        time.sleep(3600 if self.passages_encoded // BLOCK == self.blocks else self.seconds)
        return super().encode_passages(passages)


if __name__ == "__main__":
    asked = argparse.ArgumentParser()
    asked.add_argument("cache", type=Path)
    asked.add_argument("seconds", type=float)
    asked.add_argument("--count", type=Path, help="file for the number of passages that were encoded")
    asked.add_argument("--blocks", type=int, help="after which the work stands still, until it is killed")
    told = asked.parse_args()
    slow = SlowEncoder(told.seconds, told.blocks)
    stored_vectors(slow, PASSAGES, told.cache, block=BLOCK)
    if told.count:
        told.count.write_text(str(slow.passages_encoded), encoding="utf-8")
