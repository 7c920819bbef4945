"""Is a difference between two systems more than the luck of the queries?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_EXACT_UP_TO = 16  # differing queries: 2^16 sign patterns are enumerated rather than sampled
_BLOCK = 1 << 22  # numbers drawn at once: 32 MiB
_TOLERANCE = 1e-12  # sums of the same numbers in another order count as equal


def paired_randomisation(
    first: NDArray[np.float64], second: NDArray[np.float64], *, rounds: int = 10_000, seed: int = 0
) -> float:
    """Return the two-sided p-value that two systems have the same mean score.

    Under the null hypothesis each query's two scores could as well be swapped, which flips the sign of
    its difference. The p-value is the share of sign patterns whose mean difference is at least as
    far from zero as the one observed. Up to 16 differing queries all patterns are enumerated; beyond,
    `rounds` are drawn and the observed pattern counts as one more, so that p is never 0.

    Args:
        first: scores of one system per query, [Q].
        second: scores of the other for the same queries, [Q].
        rounds: patterns drawn.
        seed: of the draw.

    Returns:
        p in (0, 1]; 1 where no query differs (or there is none).

    Raises:
        ValueError: the shapes differ.

    Source: Fisher's randomisation test; Smucker, Allan and Carterette (CIKM 2007) recommend it for
    retrieval.
    """
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"expected two arrays of the same shape [Q], got {first.shape} and {second.shape}")
    differences = first - second
    differences = differences[differences != 0]  # a swap of equal scores changes nothing
    if not len(differences):
        return 1.0
    least = abs(float(differences.sum())) - _TOLERANCE * float(np.abs(differences).sum())
    if len(differences) <= _EXACT_UP_TO:
        patterns = np.arange(1 << len(differences))[:, None] >> np.arange(len(differences)) & 1
        return float((np.abs((1 - 2 * patterns) @ differences) >= least).mean())
    rng = np.random.default_rng(seed)
    extreme, step = 0, max(1, _BLOCK // len(differences))
    for start in range(0, rounds, step):
        size = (min(step, rounds - start), len(differences))
        signs = 1 - 2 * rng.integers(0, 2, size, np.int8)
        extreme += int((np.abs(signs @ differences) >= least).sum())
    return (extreme + 1) / (rounds + 1)


def bootstrap_interval(
    scores: NDArray[np.float64], *, confidence: float = 0.95, rounds: int = 2_000, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean score over queries.

    Args:
        scores: per query, [Q].
        confidence: share of resampled means inside, in (0, 1).
        rounds: resamples.
        seed: of the draw.

    Returns:
        Lower and upper bound; (0, 0) where there is no query.

    Raises:
        ValueError: the confidence is not in (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    count = len(scores)
    if not count:
        return 0.0, 0.0
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK // count)
    resampled = [
        scores[rng.integers(0, count, (min(step, rounds - start), count))].mean(axis=1)
        for start in range(0, rounds, step)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(resampled), [tail, 1 - tail])
    return float(low), float(high)
