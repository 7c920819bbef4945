"""An encoding slow enough to be killed: folder of the cache, seconds a block, file for the count."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from llara_core.retrieval.vectors import stored_vectors
from tests.oracles.fake_encoder import FakeEncoder

BLOCK = 10
PASSAGES = [f"passage {number}" for number in range(95)]


class SlowEncoder(FakeEncoder):
    """Waits before every block."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def encode_passages(self, passages: list[str]) -> np.ndarray:
        time.sleep(self.seconds)
        return super().encode_passages(passages)


if __name__ == "__main__":
    slow = SlowEncoder(float(sys.argv[2]))
    stored_vectors(slow, PASSAGES, Path(sys.argv[1]), block=BLOCK)
    if len(sys.argv) > 3:
        Path(sys.argv[3]).write_text(str(slow.passages_encoded), encoding="utf-8")
