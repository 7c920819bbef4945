"""What the tests and intervals promise, by simulation: rates of false alarms, of coverage, of seeing a gain.

Every rate comes from so many trials that the tolerance is more than three of its standard errors.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from llara_core.evaluation.significance import (
    bootstrap_interval,
    holm,
    paired_bootstrap,
    paired_randomisation,
    queries_needed,
)

pytestmark = pytest.mark.slow
TRIALS = 6_000
ROUNDS = 999  # sign patterns: (r + 1) / 1000 can be 0.05 exactly


def ndcg_like(rng, shape):
    """Scores as nDCG@10's are: 35% zero, 20% one, the rest between, more of them small."""
    kind = rng.random(shape)
    return np.where(kind < 0.35, 0.0, np.where(kind < 0.55, 1.0, rng.beta(1.2, 2.0, shape)))


def correlated(rng, shape):
    """Two systems of equal quality: they agree on 60% of the queries, and draw anew on the others."""
    first = ndcg_like(rng, shape)
    second = np.where(rng.random(shape) < 0.6, first, ndcg_like(rng, shape))
    swap = rng.random(shape) < 0.5
    return np.where(swap, second, first), np.where(swap, first, second)


def skewed(rng, shape):
    """Differences of mean zero that are no mirror image of themselves: 70% none, many small, few large."""
    kind = rng.random(shape)
    gain = np.where(kind < 0.2, rng.uniform(0.05, 0.25, shape), 0.0)  # mean 0.15 of 20%
    return np.where(kind > 0.9, -rng.uniform(0.2, 0.4, shape), gain), np.zeros(shape)  # mean -0.3 of 10%


def share(outcomes, expected, tolerance):
    """The share, once it is clear that so many trials can tell it."""
    assert tolerance > 3 * math.sqrt(expected * (1 - expected) / len(outcomes))
    return float(np.mean(outcomes))


def p_values(draw, count, seed, trials=TRIALS):
    rng = np.random.default_rng(seed)
    pairs = (draw(rng, count) for _ in range(trials))
    return np.array([paired_randomisation(*pair, rounds=ROUNDS, seed=i) for i, pair in enumerate(pairs)])


def test_the_standard_errors_allow_what_is_claimed():
    assert 3 * math.sqrt(0.05 * 0.95 / TRIALS) < 0.01


def normal(rng, count):
    return rng.normal(size=(2, count))


@pytest.mark.parametrize(
    ("draw", "count"), [(normal, 50), (normal, 300), (correlated, 50), (correlated, 300), (skewed, 300)]
)
def test_false_alarms_are_five_in_a_hundred(draw, count):
    """The sign flip assumes a null that mirrors itself; skewed differences need more queries for it."""
    p = p_values(draw, count, seed=count)
    assert share(p <= 0.05, 0.05, 0.01) == pytest.approx(0.05, abs=0.01)
    assert share(p <= 0.5, 0.5, 0.03) == pytest.approx(0.5, abs=0.03)


def test_false_alarms_among_several_sets_are_five_in_a_hundred_after_holm():
    """Five sets without any difference: at least one p-value is small in 23%, an adjusted one in 5%."""
    p = p_values(normal, 30, seed=5, trials=5 * TRIALS).reshape(TRIALS, 5)
    adjusted = np.array([min(holm(dict(enumerate(row))).values()) for row in p])
    assert (p.min(axis=1) <= 0.05).mean() == pytest.approx(1 - 0.95**5, abs=0.03)
    assert share(adjusted <= 0.05, 0.05, 0.01) == pytest.approx(0.05, abs=0.01)


def shifted(rng, count):
    """All queries move, by 0.02 on the mean."""
    second = ndcg_like(rng, count)
    return second + rng.normal(0.02, 0.2, count), second


def bounded(rng, count):
    """15% of the queries won by up to 1, 10% lost, all others alike: a mean gain of about 0.072."""
    kind = rng.random(count)
    won = np.where(kind < 0.15, rng.uniform(0.63, 1.0, count), 0.0)
    return np.where(kind > 0.9, -rng.random(count), won), np.zeros(count)


def lopsided(rng, count):
    """A gain of 0.06 on the mean that 40% of the queries carry alone."""
    return np.where(rng.random(count) < 0.4, rng.normal(0.15, 0.25, count), 0.0), np.zeros(count)


@pytest.mark.parametrize(
    ("draw", "gain", "least", "most"),
    [
        (shifted, 0.02, 0.77, 0.83),
        (bounded, 0.15 * 0.815 - 0.1 * 0.5, 0.77, 0.83),
        (lopsided, 0.06, 0.8, 0.9),  # fewer would do: the gain itself makes the differences lopsided
    ],
)
def test_the_queries_needed_show_the_gain_four_times_in_five(draw, gain, least, most):
    """A pilot gives the spread, the systems then differ by the gain in truth."""
    needed = queries_needed(*draw(np.random.default_rng(1), 50_000), gain)
    p = p_values(draw, needed, seed=7, trials=3_000)
    assert least <= share(p <= 0.05, 0.8, 0.03) <= most


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_bootstrap_intervals_cover_the_truth(confidence):
    rng = np.random.default_rng(11)
    truth = float(ndcg_like(rng, 4_000_000).mean())
    inside = [
        low <= truth <= high
        for low, high in (
            bootstrap_interval(ndcg_like(rng, 200), confidence=confidence, rounds=1_000, seed=i)
            for i in range(TRIALS)
        )
    ]
    assert share(inside, confidence, 0.02) == pytest.approx(confidence, abs=0.02)


def test_paired_bootstrap_intervals_cover_the_true_difference():
    rng = np.random.default_rng(12)
    inside = []
    for trial in range(TRIALS):
        first, second = correlated(rng, 200)
        low, high = paired_bootstrap(first + 0.03, second, rounds=1_000, seed=trial)
        inside.append(low <= 0.03 <= high)
    assert share(inside, 0.95, 0.015) == pytest.approx(0.95, abs=0.015)
