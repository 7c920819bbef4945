"""How likely a paired t-test is to see an effect: the noncentral t distribution, without scipy.

T = (Z + δ) / S with Z normal and S² a chi-square over its ν degrees of freedom, independent of it. Every
probability is the mean over S of a normal one, integrated by Gauss and Legendre's rule.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(160)
_REACH = 10.0  # standard deviations of S that are integrated: beyond lies less than 1e-20
_BISECTIONS = 80

Nodes = tuple[NDArray[np.float64], NDArray[np.float64]]


def t_test_power(effect: float, count: int, alpha: float) -> float:
    """Return the probability that a two-sided paired t-test rejects at the level alpha.

    Args:
        effect: true mean difference over its standard deviation (d_z).
        count: queries, at least 2; from 3 on it is exact to nine digits.
        alpha: level, in (0, 1).

    Source: Cohen, Statistical Power Analysis for the Behavioral Sciences, with the exact noncentral t.
    """
    spread = _spread(count - 1)
    critical = _critical(spread, alpha)
    shift = effect * math.sqrt(count)
    return _tail(spread, critical, shift) + _tail(spread, critical, -shift)


def _spread(freedom: int) -> Nodes:
    """Values of S = sqrt(χ²/ν) and the probability that each stands for, [M]."""
    half_width = _REACH / math.sqrt(2 * freedom)
    low, high = max(0.0, 1 - half_width), 1 + half_width
    values = (high - low) / 2 * _NODES + (high + low) / 2
    log_density = (freedom - 1) * np.log(values) - freedom * (values**2 - 1) / 2
    weights = _WEIGHTS * np.exp(log_density)  # the constant factor cancels below
    return values, weights / weights.sum()


def _tail(spread: Nodes, at: float, shift: float) -> float:
    """P(T > at) where T's numerator has the mean `shift`."""
    values, weights = spread
    arguments = (at * values - shift) / math.sqrt(2)
    normal = np.array([math.erfc(argument) / 2 for argument in arguments.tolist()])
    return float(weights @ normal)


def _critical(spread: Nodes, alpha: float) -> float:
    """The t that |T| passes with the probability alpha when there is no effect."""
    low, high = 0.0, 1.0
    while 2 * _tail(spread, high, 0.0) > alpha:
        high *= 2
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if 2 * _tail(spread, middle, 0.0) > alpha else (low, middle)
    return (low + high) / 2
