"""One hash per passage: what tells an unchanged passage from a changed one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

HASH_BYTES = 16  # 128 bits: two of a billion passages share one with a chance of 1e-21


def passage_hashes(passages: Iterable[str]) -> NDArray[np.uint8]:
    """BLAKE2b of each passage's text, uint8 [N, 16].

    Args:
        passages: N texts, title and text joined (``data.collection.passage_text``); lone surrogates allowed.
    """
    digests = bytearray()
    for text in passages:
        digests += hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=HASH_BYTES).digest()
    return np.frombuffer(digests, np.uint8).reshape(-1, HASH_BYTES)
