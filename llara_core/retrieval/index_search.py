"""Searching an index: exactly, or exactly among what an approximate part of it proposes."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.retrieval.exact import check_shapes, exact_scores
from llara_core.retrieval.exact_scan import lengths
from llara_core.retrieval.index_faiss import Approximate, spread
from llara_core.retrieval.index_vectors import Shards

logger = logging.getLogger(__name__)
RECALL_DEPTH, RECALL_SAMPLE, RECALL_FLOOR = 100, 200, 0.9
_LEAST_REFINED = 200  # candidates of an approximate index that are scored again, at least


def search_index(
    vectors: Shards, approximate: Approximate | None, queries: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k best passages of each query [Q, D]: scores [Q, K] float32 and rows [Q, K] int64, ties by row.

    Args:
        vectors: of the corpus.
        approximate: proposes candidates; None: every passage is one.
        queries: [Q, D] float32.
        k: results per query. A query for which fewer are proposed is searched exactly.

    Raises:
        InputError: k < 1, the dimensions differ, or a vector holds NaN or infinity.
    """
    count = len(vectors)
    check_shapes(queries, (count, vectors.parts[0].shape[1]), k)
    lengths(queries, "query")  # FAISS would answer a vector of NaN with some passages
    if approximate is None:
        return vectors.search(queries, k)
    wanted = max(_LEAST_REFINED, approximate.parameters["refine"] * k)
    if wanted >= count:
        return vectors.search(queries, k)
    proposed = approximate.propose(queries, wanted)
    scores, rows = np.zeros((len(queries), k), np.float32), np.zeros((len(queries), k), np.int64)
    short = []
    for place, candidates in enumerate(proposed):
        found = np.sort(candidates[candidates >= 0])  # ascending: a stable sort settles ties by row
        if len(found) < k:
            short.append(place)
            continue
        exact = exact_scores(queries[place].astype(np.float64), vectors.take(found))
        order = np.argsort(-exact, kind="stable")[:k]
        scores[place], rows[place] = exact[order], found[order]
    if short:
        scores[short], rows[short] = vectors.search(queries[short], k)
    return scores, rows


def measure_recall(
    vectors: Shards, approximate: Approximate, queries: NDArray[np.float32] | None = None
) -> dict[str, Any]:
    """Recall@100 of an approximate index: the share of the exact 100 best that it finds too.

    Args:
        vectors: of the corpus.
        approximate: its index.
        queries: [Q, D]; None: 200 of the corpus' own vectors, evenly spread. Real queries lie further from
            the passages than passages do from each other, so their recall can be lower.
    """
    depth = min(RECALL_DEPTH, len(vectors))
    if queries is None:
        queries = vectors.take(spread(len(vectors), RECALL_SAMPLE)).astype(np.float32)
    _, exact = vectors.search(queries, depth)
    _, found = search_index(vectors, approximate, queries, depth)
    shared = [len(np.intersect1d(one, other)) for one, other in zip(exact, found, strict=True)]
    recall = float(np.mean(shared)) / depth
    if recall < RECALL_FLOOR:
        logger.warning(
            "index: recall@%d is %.3f on %d vectors; raise %s, or build a flat index",
            depth, recall, len(queries), "nprobe" if approximate.kind == "ivfpq" else "ef_search",
        )  # fmt: skip
    return {"depth": depth, "queries": len(queries), "recall": round(recall, 4), "floor": RECALL_FLOOR}
