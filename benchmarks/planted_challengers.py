"""Challengers of known worth for the promotion gate: what the right decision is, is known beforehand.

Scores are nDCG@10 of queries with one relevant document each. The log of its rank is how hard the query is
(shared by all models) plus what is a model's own, so two models of equal worth differ query by query, as
two seeds of one training do. A model's worth is a shift of the log-rank, found by bisection so that the
*true* gain is what the scenario says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from llara_core.operations.gate_evidence import Cost, Evidence, Judged

HARDNESS = (1.0, 1.5)  # mean and spread of a query's log-rank
OWN = 0.6  # spread of what is a model's own: two equal models then differ by about 0.2 a query
DEPTH = 10
LEAKED = 0.3  # share of queries that the leaked challenger has seen
BEHIND = -0.10  # BM25 against the champion
PRIMARY, GUARDS = 1_500, (648, 1_000, 1_406)  # queries: as many as the demo; FiQA, SCIDOCS, ArguAna
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Scenario:
    """A kind of challenger.

    Args:
        name: of the kind.
        promote: the right decision.
        gain: true gain on the primary collection.
        lost: true loss on one guarded collection.
        seen: true gain on queries that leaked.
        same: whether it is the champion once more, query by query.
    """

    name: str
    promote: bool
    gain: float = 0.0
    lost: float = 0.0
    seen: float = 0.0
    same: bool = False


SCENARIOS = (
    Scenario("better", True, gain=0.04),
    Scenario("equal", False, same=True),
    Scenario("noise", False),
    Scenario("worse on one guard", False, gain=0.04, lost=0.08),
    Scenario("leaked", False, seen=0.30),
)


def evidence(
    scenario: Scenario,
    rng: np.random.Generator,
    queries: int = PRIMARY,
    sizes: Sequence[int] = GUARDS,
) -> Evidence:
    """One run: both models answer queries drawn anew; any of the guards may be the one that is forgotten."""
    hard = _hardness(queries, rng)
    champion = _scores(hard, 0.0, rng)
    challenger = champion.copy() if scenario.same else _scores(hard, scenario.gain, rng)
    marks = None
    if scenario.seen:
        marks = rng.random(queries) >= LEAKED
        challenger = np.where(marks, challenger, _scores(hard, scenario.seen, rng))
    forgotten = int(rng.integers(len(sizes)))
    guards = [
        _guard(place, count, scenario, scenario.lost if place == forgotten else 0.0, rng)
        for place, count in enumerate(sizes)
    ]
    primary = Judged("primary", "test", challenger, champion, _scores(hard, BEHIND, rng, 3 * OWN), marks)
    cost = Cost(latency_ms=5.0, size_bytes=10**8, dimension=384, cosine=0.2)
    return Evidence(primary, cost, tuple(guards), cost, "1")


def _guard(place: int, count: int, scenario: Scenario, lost: float, rng: np.random.Generator) -> Judged:
    hard = _hardness(count, rng)
    champion = _scores(hard, 0.0, rng)
    challenger = champion.copy() if scenario.same else _scores(hard, -lost, rng)
    return Judged(f"guard-{place}", "test", challenger, champion)


def _hardness(count: int, rng: np.random.Generator) -> Scores:
    return rng.normal(*HARDNESS, count)


def _scores(hard: Scores, gain: float, rng: np.random.Generator, own: float = OWN) -> Scores:
    """nDCG@10 [Q] of a model whose true mean is that of the champion plus the gain."""
    return _ndcg(hard + rng.normal(0, own, len(hard)) - _shift(gain, own))


def _ndcg(log_rank: Scores) -> Scores:
    rank = np.ceil(np.exp(log_rank))
    return np.where(rank <= DEPTH, 1 / np.log2(1 + np.maximum(rank, 1)), 0.0)


@cache
def _shift(gain: float, own: float) -> float:
    """The shift of the log-rank that is worth a gain in the mean, over many queries drawn once."""
    rng = np.random.default_rng(12_345)
    hard = _hardness(400_000, rng)
    noise = rng.normal(0, 1, len(hard))
    wanted = float(_ndcg(hard + OWN * noise).mean()) + gain
    low, high = -8.0, 8.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _ndcg(hard + own * noise - middle).mean() < wanted else (low, middle)
    return high
