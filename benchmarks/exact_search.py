"""Exact search side by side with FAISS used plainly and with torch, in one run.

    .venv/bin/python benchmarks/exact_search.py [--documents 100000] [--rounds 5]

Writes docs/results/exact_search.md: medians of alternating rounds as ratios.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from llara_core.retrieval.exact import search

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "exact_search.md"
DIMENSION, DEPTH = 256, 100
QUERIES = (64, 200, 1000)
Vectors = NDArray[np.float32]
logger = logging.getLogger("exact_search")


def plain_faiss(queries: Vectors, corpus: Vectors) -> NDArray[np.int64]:
    """IndexFlatIP as its documentation shows it, the index built before."""
    index = _INDEX.setdefault(id(corpus), faiss.IndexFlatIP(corpus.shape[1]))
    if not index.ntotal:
        index.add(corpus)
    # `search` lowers this process-wide threshold; the plain user has the library's own.
    faiss.cvar.distance_compute_blas_threshold = _PLAIN_THRESHOLD
    return np.asarray(index.search(queries, DEPTH)[1])


def plain_torch(queries: Vectors, corpus: Vectors) -> NDArray[np.int64]:
    """A matrix product and topk."""
    product = torch.from_numpy(queries) @ torch.from_numpy(corpus).T
    return product.topk(DEPTH).indices.numpy()


def ours(queries: Vectors, corpus: Vectors) -> NDArray[np.int64]:
    """``llara_core.retrieval.exact.search``."""
    return search(queries, corpus, DEPTH)[1]


_INDEX: dict[int, faiss.IndexFlatIP] = {}
_PLAIN_THRESHOLD = faiss.cvar.distance_compute_blas_threshold
WAYS: dict[str, Callable[[Vectors, Vectors], NDArray[np.int64]]] = {
    "llara": ours, "FAISS, plain": plain_faiss, "torch": plain_torch,
}  # fmt: skip


def measure(queries: Vectors, corpus: Vectors, rounds: int) -> dict[str, float]:
    """Median seconds of each way; the ways alternate, so that a busy moment hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    answers = {name: way(queries, corpus) for name, way in WAYS.items()}  # also warms up
    for name, rows in answers.items():
        agreement = np.mean([len(set(a) & set(b)) for a, b in zip(rows, answers["llara"], strict=True)])
        if agreement < DEPTH - 1:  # rounding may swap the last place of a list
            raise SystemExit(
                f"{name} and llara share {agreement:.1f} of {DEPTH} results: not the same search"
            )
    for _ in range(rounds):
        for name, way in WAYS.items():
            start = time.perf_counter()
            way(queries, corpus)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> int:
    """Measure and write the table; exits 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    random = np.random.default_rng(0)
    corpus = random.standard_normal((chosen.documents, DIMENSION), dtype=np.float32)
    lines = [
        "# Exact search",
        "",
        f"Written by `make bench`: {chosen.documents:,} documents of {DIMENSION} dimensions, "
        f"the best {DEPTH}, {torch.get_num_threads()} threads, FAISS {faiss.__version__}, "
        f"torch {torch.__version__.split('+')[0]}; medians of {chosen.rounds} alternating rounds.",
        "",
        "| queries | llara, ms | FAISS used plainly, times llara's | torch, times llara's |",
        "|---|---|---|---|",
    ]
    for count in QUERIES:
        seconds = measure(random.standard_normal((count, DIMENSION), dtype=np.float32), corpus, chosen.rounds)
        own = seconds["llara"]
        faiss_ratio, torch_ratio = (seconds[name] / own for name in ("FAISS, plain", "torch"))
        lines.append(f"| {count:,} | {own * 1000:.0f} | {faiss_ratio:.1f} | {torch_ratio:.1f} |")
        logger.info(lines[-1])
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    logger.info("wrote %s", RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
