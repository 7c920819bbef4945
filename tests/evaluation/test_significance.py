from __future__ import annotations

import math

import numpy as np
import pytest

from llara_core.evaluation.power import t_test_power
from llara_core.evaluation.significance import (
    bootstrap_interval,
    effect_size,
    holm,
    paired_bootstrap,
    paired_randomisation,
    queries_needed,
)

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


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_paired_bootstrap_is_scipys_percentile_interval_of_the_differences(confidence):
    rng = np.random.default_rng(8)
    second = rng.beta(0.5, 1, 150)
    first = np.clip(second + rng.normal(0.05, 0.2, 150), 0, 1)
    expected = stats.bootstrap(
        ((first - second),), np.mean, method="percentile", confidence_level=confidence, n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    found = paired_bootstrap(first, second, confidence=confidence, rounds=20_000)
    noise = 4 * (first - second).std() / math.sqrt(150) * 2.5 / math.sqrt(20_000)  # of a tail quantile
    assert found == pytest.approx((expected.low, expected.high), abs=2 * noise)
    assert found == bootstrap_interval(first - second, confidence=confidence, rounds=20_000)
    low, high = paired_bootstrap(second, first, confidence=confidence, rounds=20_000)
    assert (-high, -low) == pytest.approx(found, abs=1e-12)


def test_paired_bootstrap_is_narrower_than_the_systems_own_intervals():
    """What makes a query hard for both systems cancels."""
    rng = np.random.default_rng(9)
    second = rng.random(100)
    low, high = paired_bootstrap(second + 0.01 * rng.random(100), second)
    own_low, own_high = bootstrap_interval(second)
    assert 0 < low < high < 0.01 and own_high - own_low > 10 * (high - low)


def test_holm_by_hand():
    """0.01 · 3, then 0.03 · 2, then 0.04 · 1, which may not be below the one before."""
    found = holm({("scifact", "ndcg"): 0.04, ("scifact", "mrr"): 0.01, ("cisi", "ndcg"): 0.03})
    assert found == pytest.approx(
        {("scifact", "mrr"): 0.03, ("cisi", "ndcg"): 0.06, ("scifact", "ndcg"): 0.06}
    )
    assert list(found) == [("scifact", "mrr"), ("cisi", "ndcg"), ("scifact", "ndcg")]
    assert holm({"a": 0.7, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({"a": 0.02}) == {"a": 0.02} and holm({}) == {}
    with pytest.raises(ValueError, match=r"\[0, 1\], got 1.5 for 'b'"):
        holm({"a": 0.5, "b": 1.5})
    with pytest.raises(ValueError, match="got nan"):
        holm({"a": math.nan})


def test_holm_is_between_no_correction_and_bonferronis():
    rng = np.random.default_rng(10)
    p = dict(enumerate(rng.random(12) ** 3))
    adjusted = holm(p)
    ranked = sorted(p, key=p.__getitem__)
    assert all(p[key] <= adjusted[key] <= min(1.0, 12 * p[key]) for key in p)
    assert [adjusted[key] for key in ranked] == sorted(adjusted.values())


def test_effect_size_by_hand():
    first, second = np.array([0.4, 0.6, 0.5]), np.array([0.3, 0.3, 0.3])
    assert effect_size(first, second) == pytest.approx(0.2 / 0.1)  # differences 0.1, 0.3, 0.2
    assert effect_size(second, first) == pytest.approx(-2.0)
    assert effect_size(first, first) == 0.0
    assert effect_size(second, second + 0.1) == -math.inf  # 0.3 - 0.4 is not exactly -0.1 everywhere
    assert effect_size(np.linspace(0, 1, 9) + 0.1, np.linspace(0, 1, 9)) == math.inf
    assert math.isnan(effect_size(np.ones(1), np.zeros(1))) and math.isnan(effect_size(*np.zeros((2, 0))))
    with pytest.raises(ValueError, match="same shape"):
        effect_size(np.zeros(3), np.zeros(4))


def test_effect_size_is_the_t_statistic_over_the_root_of_the_queries():
    rng = np.random.default_rng(11)
    first, second = rng.random((2, 70))
    assert effect_size(first, second) == pytest.approx(stats.ttest_rel(first, second).statistic / 70**0.5)


@pytest.mark.parametrize("count", [3, 6, 20, 300, 100_000])
@pytest.mark.parametrize("effect", [0.0, 0.003, 0.2, 1.0])
def test_power_is_the_noncentral_ts(count, effect):
    for alpha in (0.05, 0.001):
        critical, shift = stats.t.ppf(1 - alpha / 2, count - 1), effect * math.sqrt(count)
        expected = stats.nct.sf(critical, count - 1, shift) + stats.nct.cdf(-critical, count - 1, shift)
        assert t_test_power(effect, count, alpha) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("gain", [0.005, 0.02, -0.1])
@pytest.mark.parametrize("power", [0.8, 0.95])
def test_queries_needed_is_the_smallest_number_with_the_power(gain, power):
    first, second = np.random.default_rng(12).random((2, 200))
    needed = queries_needed(first, second, gain, power=power)
    effect = abs(gain) / (first - second).std(ddof=1)

    def reached(count):
        critical, shift = stats.t.ppf(0.975, count - 1), effect * math.sqrt(count)
        return stats.nct.sf(critical, count - 1, shift) + stats.nct.cdf(-critical, count - 1, shift)

    assert reached(needed - 1) < power <= reached(needed)
    assert queries_needed(second, first, -gain, power=power) == needed


def test_queries_needed_at_the_edges():
    """Six queries are the fewest of which all-one-sided patterns are rarer than 5%: 2 of 64."""
    even = np.linspace(0, 1, 20)
    assert queries_needed(even + 0.1, even, 0.1) == 6
    assert queries_needed(even, np.flip(even), 100.0) == 6
    assert queries_needed(even, even, 0.1, alpha=0.001) == 11
    with pytest.raises(ValueError, match="at least two queries, got 1"):
        queries_needed(np.ones(1), np.zeros(1), 0.1)
    with pytest.raises(ValueError, match="other than 0"):
        queries_needed(even, np.flip(even), 0.0)
    with pytest.raises(ValueError, match="other than 0"):
        queries_needed(even, np.flip(even), math.nan)
    with pytest.raises(ValueError, match="alpha < power"):
        queries_needed(even, np.flip(even), 0.1, power=0.01)
    with pytest.raises(ValueError, match="same shape"):
        queries_needed(np.zeros(3), np.zeros(4), 0.1)
