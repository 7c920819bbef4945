"""Is a difference between two systems more than the luck of the queries?

Q is the number of queries everywhere; scores are one metric's values per query.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from llara_core.evaluation.power import t_test_power

K = TypeVar("K", bound=Hashable)

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
    differences = _differences(first, second)
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


def paired_bootstrap(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    *,
    confidence: float = 0.95,
    rounds: int = 2_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean difference, first minus second.

    Queries are resampled, each with both of its scores: what makes a query hard for both cancels.

    Args:
        first: scores of one system per query, [Q].
        second: scores of the other for the same queries, [Q].
        confidence: share of resampled differences inside, in (0, 1).
        rounds: resamples.
        seed: of the draw.

    Returns:
        Lower and upper bound; (0, 0) where there is no query.

    Raises:
        ValueError: the shapes differ, or the confidence is not in (0, 1).
    """
    return bootstrap_interval(_differences(first, second), confidence=confidence, rounds=rounds, seed=seed)


def holm(p_values: Mapping[K, float]) -> dict[K, float]:
    """Return p-values adjusted for their number.

    Call significant those below alpha, and the chance of any false alarm among all stays below alpha.

    Args:
        p_values: by test, for example by (set, metric): every test that one looks at belongs here.

    Returns:
        Adjusted p-values in (0, 1], smallest first.

    Raises:
        ValueError: a p-value is not in [0, 1].

    Source: Holm, A simple sequentially rejective multiple test procedure (1979): the smallest of m is
    multiplied by m, the next by m - 1, and so on; none may be below the one before.
    """
    adjusted: dict[K, float] = {}
    least = 0.0
    for place, (name, value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        if not 0 <= value <= 1:
            raise ValueError(f"expected p-values in [0, 1], got {value} for {name!r}")
        least = max(least, min(1.0, (len(p_values) - place) * value))
        adjusted[name] = least
    return adjusted


def effect_size(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return d_z: the mean difference over its standard deviation among queries (with Q - 1).

    Args:
        first: scores of one system per query, [Q].
        second: scores of the other for the same queries, [Q].

    Returns:
        Positive where the first is better; 0.2, 0.5 and 0.8 are called small, medium and large. 0 where
        no query differs, infinite where all differ by the same, NaN for fewer than two queries.

    Raises:
        ValueError: the shapes differ.

    Source: Cohen, Statistical Power Analysis for the Behavioral Sciences (1988).
    """
    differences = _differences(first, second)
    if len(differences) < 2:
        return math.nan
    mean, spread = float(differences.mean()), _spread(differences)
    if spread == 0:
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / spread


def queries_needed(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    gain: float,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
) -> int:
    """Return how many queries a paired two-sided test needs to see a true gain of the given size.

    The differences between the two systems at hand tell how much queries vary; the gain asked about may
    be another than theirs.

    Args:
        first: scores of one system per query, [Q].
        second: scores of the other for the same queries, [Q].
        gain: true difference of the means, in the metric's own unit; its sign does not matter.
        power: wanted probability that the test says so.
        alpha: level of the test, divided by the number of tests where several are adjusted.

    Returns:
        The smallest number with that power by the paired t-test, which the randomisation test follows
        closely; at least so many that the randomisation test could reach alpha at all. It is meant for
        gains that some dozens of queries show; where all of a gain comes from very few, it is rough.

    Raises:
        ValueError: fewer than two queries, the shapes differ, the gain is 0 or not finite, or alpha and
            power are not 0 < alpha < power < 1.

    Source: the noncentral t distribution, as in `power`; Sakai, Topic set size design (2016).
    """
    differences = _differences(first, second)
    if len(differences) < 2:
        raise ValueError(f"the spread of differences needs at least two queries, got {len(differences)}")
    if not math.isfinite(gain) or gain == 0:
        raise ValueError(f"gain must be finite and other than 0, got {gain}")
    if not 0 < alpha < power < 1:
        raise ValueError(f"expected 0 < alpha < power < 1, got alpha {alpha} and power {power}")
    least = math.ceil(1 + math.log2(1 / alpha))  # of n queries, 2 of the 2^n sign patterns are extreme
    spread = _spread(differences)
    if spread == 0:
        return least
    effect = abs(gain) / spread
    low = high = least
    while t_test_power(effect, high, alpha) < power:
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if t_test_power(effect, middle, alpha) < power else (low, middle)
    return high


def _differences(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"expected two arrays of the same shape [Q], got {first.shape} and {second.shape}")
    return np.subtract(first, second, dtype=np.float64)


def _spread(differences: NDArray[np.float64]) -> float:
    """Standard deviation; exactly 0 where the differences are equal but for the rounding of a subtraction."""
    spread = float(differences.std(ddof=1))
    return 0.0 if spread <= _TOLERANCE * float(np.abs(differences).max()) else spread
