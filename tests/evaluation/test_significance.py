from __future__ import annotations

import numpy as np
import pytest

from llara_core.evaluation.significance import bootstrap_interval, paired_randomisation

stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")


def scipy_p(first, second, n=np.inf):
    def statistic(x, y, axis):
        return np.mean(x - y, axis=axis)

    result = stats.permutation_test(
        (first, second), statistic, permutation_type="samples", n_resamples=n, rng=np.random.default_rng(9)
    )
    return result.pvalue


@pytest.mark.parametrize("seed", range(6))
def test_exact_for_few_queries(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 5, (2, 9)) / 4  # exact in binary: scipy allows no rounding
    assert paired_randomisation(first, second) == pytest.approx(scipy_p(first, second), abs=1e-12)


def test_by_hand():
    """Three differences of one sign: only two of the eight patterns are as extreme."""
    assert paired_randomisation(np.array([1.0, 2.0, 3.0]), np.zeros(3)) == 2 / 8
    assert paired_randomisation(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1.0


@pytest.mark.parametrize("shift", [0.0, 0.03, 0.06])
def test_close_to_scipy_for_many_queries(shift):
    rng = np.random.default_rng(3)
    second = rng.random(200)
    first = second + rng.normal(shift, 0.3, 200)
    assert paired_randomisation(first, second) == pytest.approx(scipy_p(first, second, 10_000), abs=0.02)


def test_uniform_under_the_null():
    """Two samples of one distribution: p below 0.05 in about 5% of the cases."""
    rng = np.random.default_rng(4)
    p = np.array([paired_randomisation(*rng.random((2, 60)), rounds=400, seed=i) for i in range(400)])
    assert 0.02 <= (p <= 0.05).mean() <= 0.09
    assert 0.4 <= (p <= 0.5).mean() <= 0.6


def test_seeded_symmetric_and_never_zero():
    rng = np.random.default_rng(5)
    second = rng.random(100)
    first = second + 0.5
    assert paired_randomisation(first, second) == 1 / 10_001
    first = second + rng.normal(0.02, 0.2, 100)
    assert paired_randomisation(first, second, seed=1) == paired_randomisation(first, second, seed=1)
    assert paired_randomisation(first, second) == paired_randomisation(second, first)


def test_equal_or_absent_queries_and_wrong_shapes():
    same = np.linspace(0, 1, 30)
    assert paired_randomisation(same, same) == 1.0
    assert paired_randomisation(np.zeros(0), np.zeros(0)) == 1.0
    padded = np.concatenate([same, [1.0, 2.0, 3.0]])
    assert paired_randomisation(padded, np.concatenate([same, np.zeros(3)])) == 2 / 8
    with pytest.raises(ValueError, match="same shape"):
        paired_randomisation(np.zeros(3), np.zeros(4))


def test_bootstrap_interval():
    scores = np.random.default_rng(6).random(300)
    low, high = bootstrap_interval(scores)
    half = 1.96 * scores.std(ddof=1) / np.sqrt(300)
    assert low == pytest.approx(scores.mean() - half, abs=0.004)
    assert high == pytest.approx(scores.mean() + half, abs=0.004)
    assert bootstrap_interval(scores) == (low, high) != bootstrap_interval(scores, seed=1)
    assert bootstrap_interval(np.full(5, 0.3)) == pytest.approx((0.3, 0.3))
    assert bootstrap_interval(np.zeros(0)) == (0.0, 0.0)
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_interval(scores, confidence=1.0)


def test_bootstrap_covers_the_truth():
    rng = np.random.default_rng(7)
    inside = [
        low <= 0.5 <= high
        for low, high in (bootstrap_interval(rng.random(80), rounds=300, seed=i) for i in range(300))
    ]
    assert 0.9 <= np.mean(inside) <= 0.98
