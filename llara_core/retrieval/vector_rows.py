"""Which rows of a corpus are the same text, and which are known from elsewhere, by their hashes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llara_core.retrieval.hashes import HASH_BYTES

Hashes = NDArray[np.uint8]


def first_rows(hashes: Hashes) -> NDArray[np.int64]:
    """For each row [N] the first row with the same hash; its own number where there is none before it."""
    low, high = _halves(hashes).T
    order = np.lexsort((low, high))  # stable: equal hashes stay in the order of their rows
    new = np.ones(len(order), bool)
    new[1:] = (high[order][1:] != high[order][:-1]) | (low[order][1:] != low[order][:-1])
    first = np.empty(len(order), np.int64)
    first[order] = order[new][np.cumsum(new) - 1]
    return first


def find_rows(wanted: Hashes, known: Hashes) -> NDArray[np.int64]:
    """For each wanted hash [M] a row of the known ones [K] that equals it, or -1.

    Looked up by eight of the 16 bytes and then compared whole. Should two known hashes share these eight,
    one of them may not be found, which costs an encoding and nothing else.
    """
    if not len(known):
        return np.full(len(wanted), -1, np.int64)
    keys = _halves(known)[:, 0]
    order = np.argsort(keys, kind="stable")
    places = np.searchsorted(keys[order], _halves(wanted)[:, 0])
    rows = order[np.minimum(places, len(known) - 1)]
    return np.where((known[rows] == wanted).all(axis=1), rows, -1)


def _halves(hashes: Hashes) -> NDArray[np.uint64]:
    return np.ascontiguousarray(hashes).view(np.uint64).reshape(-1, HASH_BYTES // 8)
