"""The gate's checks of costs: collapse, latency and size, and how a model's costs are measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llara_core.operations.decision import Check
from llara_core.operations.gate_evidence import Cost, Evidence
from llara_core.promotion_settings import LimitSettings
from llara_core.retrieval.vectors import Encoder

_MEGABYTE = 1e6
_SLACK_MS = 1.0  # below it a difference is the clock's and the scheduler's, not the model's
_ROUNDS = 5  # of timing; the best counts, since a busy machine only ever adds to a time
_TIMED_QUERIES = 32
_SAMPLED_PASSAGES = 2_000


def limits(evidence: Evidence, rules: LimitSettings) -> tuple[Check, ...]:
    """Return the checks of collapse, latency, size and dimension; those without a limit are left out."""
    ours, theirs = evidence.cost, evidence.champion_cost
    checks = [_most("collapse", ours.cosine, rules.cosine, "mean cosine of pairs of passages")]
    checks.append(_most("latency", ours.latency_ms, rules.latency_ms, "milliseconds a query"))
    checks.append(_most("size", ours.size_bytes / _MEGABYTE, rules.size_mb, "megabytes of the model's files"))
    checks.append(_most("dimension", float(ours.dimension), rules.dimension, "numbers a vector"))
    if theirs is not None:
        checks.append(_latency_ratio(ours, theirs, rules.latency_ratio))
        size = ours.size_bytes / max(1, theirs.size_bytes)
        checks.append(_most("size/ratio", size, rules.size_ratio, "times the bytes of the champion"))
    return tuple(check for check in checks if check is not None)


def measure(
    encoders: Sequence[Encoder],
    folders: Sequence[Path],
    vectors: Sequence[NDArray[np.float32] | NDArray[np.float16]],
    queries: Sequence[str],
) -> list[Cost]:
    """Return what each model costs; their times are taken in turns, so that a busy machine treats all alike.

    Args:
        encoders: M models.
        folders: their bundles.
        vectors: of the same passages by each model, [N, D]; only a sample is read.
        queries: texts to time; at most 32 are used.
    """
    latencies = encode_latencies(encoders, queries[:_TIMED_QUERIES])
    return [
        Cost(latency, folder_bytes(folder), encoder.dimension, mean_cosine(matrix))
        for latency, folder, encoder, matrix in zip(latencies, folders, encoders, vectors, strict=True)
    ]


def encode_latencies(
    encoders: Sequence[Encoder], queries: Sequence[str], rounds: int = _ROUNDS
) -> list[float]:
    """Return milliseconds to encode one query, alone, by each of M models: the best round of each.

    Args:
        encoders: M models.
        queries: texts, each encoded by itself, as a server does.
        rounds: over all queries, the models in turns.
    """
    best = [float("inf")] * len(encoders)
    for _ in range(rounds + 1):  # the first also warms up, which can only be slower
        for place, encoder in enumerate(encoders):
            start = time.perf_counter()
            for query in queries:
                encoder.encode_queries([query])
            best[place] = min(best[place], (time.perf_counter() - start) * 1e3 / max(1, len(queries)))
    return best


def mean_cosine(
    vectors: NDArray[np.float32] | NDArray[np.float16], sample: int = _SAMPLED_PASSAGES, seed: int = 0
) -> float:
    """Return the mean cosine of pairs of different passages; 0 where there are fewer than two.

    The sum over all pairs is |sum of the vectors|² less the diagonal, so no pair is ever formed.

    Args:
        vectors: unit vectors [N, D].
        sample: passages drawn, at most.
        seed: of the draw.
    """
    if len(vectors) > sample:
        rows = np.sort(np.random.default_rng(seed).choice(len(vectors), sample, replace=False))
        vectors = vectors[rows]
    count = len(vectors)
    if count < 2:
        return 0.0
    chosen = np.asarray(vectors, np.float64)
    total = chosen.sum(axis=0)
    return float((total @ total - (chosen * chosen).sum()) / (count * (count - 1)))


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _latency_ratio(ours: Cost, theirs: Cost, most: float | None) -> Check | None:
    if most is None:
        return None
    ratio = ours.latency_ms / max(theirs.latency_ms, 1e-9)
    words = (
        f"{ours.latency_ms:.1f} ms a query against the champion's {theirs.latency_ms:.1f} ms: {ratio:.2f} "
        f"times, at most {most:g} (and {_SLACK_MS:g} ms for the clock)"
    )
    passed = ours.latency_ms <= most * theirs.latency_ms + _SLACK_MS
    return Check("latency/ratio", passed, ratio, most, words)


def _most(name: str, value: float, most: float | None, unit: str) -> Check | None:
    """A check against an upper bound; a value that is no number fails."""
    if most is None:
        return None
    return Check(name, bool(value <= most), value, float(most), f"{value:.4g} {unit}, at most {most:g}")
