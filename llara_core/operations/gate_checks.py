"""The gate's checks of scores: better on one collection, not worse on others, better than BM25."""

from __future__ import annotations

import math
from statistics import NormalDist

from llara_core.evaluation.significance import paired_bootstrap, paired_randomisation
from llara_core.operations.decision import Check
from llara_core.operations.gate_evidence import Judged, Scores
from llara_core.promotion_settings import PromoteSettings

_POWER = 0.8  # with which the number of queries that a guard needs is told


def enough_queries(judged: Judged, rules: PromoteSettings) -> Check:
    """Whether so many queries count that a test of them can tell anything."""
    count = len(judged.counted(judged.challenger))
    asked = rules.minimum_queries
    words = f"{_queries(judged)}, at least {asked:,} are asked for"
    if count < asked and judged.leaks:
        words += "; judge on a split that training does not give away, or take leaks out of training"
    return Check("queries", count >= asked, float(count), float(asked), words)


def primary(judged: Judged, rules: PromoteSettings) -> Check:
    """Whether the challenger is better than the champion, by a paired randomisation test.

    Args:
        judged: the primary collection.
        rules: metric, level and least gain.
    """
    if judged.champion is None:
        words = f"there was no champion yet; {rules.metric} {_mean(judged, judged.challenger):.4f}"
        return Check("primary", None, None, None, words)
    ours, theirs = judged.counted(judged.challenger), judged.counted(judged.champion)
    gain, p = _difference(ours, theirs), paired_randomisation(ours, theirs)
    words = (
        f"{rules.metric} {_of(ours):.4f} against the champion's {_of(theirs):.4f}: {gain:+.4f}, "
        f"{_chance(p)}, on {_queries(judged)}; asked for: at least +{rules.minimum_gain:g} with p below "
        f"{rules.level:g}"
    )
    passed = gain > 0 and gain >= rules.minimum_gain and p < rules.level
    if not passed and judged.leaks:
        official = _difference(judged.challenger, judged.champion)
        words += f" (with the queries that training gives away it would be {official:+.4f})"
    return Check("primary", passed, gain, rules.minimum_gain, words)


def guard(judged: Judged, rules: PromoteSettings) -> Check:
    """Whether a loss beyond the margin is ruled out on a guarded collection (a test of non-inferiority).

    The lower bound of the paired difference must lie above the margin. Too few queries make the bound low,
    so what cannot be told is refused; the words say how many queries would do.

    Args:
        judged: the guarded collection.
        rules: margin and level; the chance to accept a loss as great as the margin is the level.
    """
    margin = rules.margin if judged.margin is None else judged.margin
    name = f"guard/{judged.name}"
    if judged.champion is None:
        mean = _mean(judged, judged.challenger)
        return Check(name, None, None, -margin, f"{mean:.4f}; no champion to compare with")
    ours, theirs = judged.counted(judged.challenger), judged.counted(judged.champion)
    if not len(ours):
        words = "no query counts: training gives all of them away, or the split is empty"
        return Check(name, False, None, -margin, words)
    change = _difference(ours, theirs)
    low, _ = paired_bootstrap(ours, theirs, confidence=1 - 2 * rules.guard_level)
    words = (
        f"{rules.metric} {_of(ours):.4f} against the champion's {_of(theirs):.4f}: {change:+.4f}, at least "
        f"{low:+.4f} with {1 - rules.guard_level:.0%} confidence, on {_queries(judged)}; a loss beyond "
        f"{margin:g} must be ruled out"
    )
    passed = low >= -margin
    if not passed and change >= -margin:
        words += f", which takes about {_needed(ours - theirs, margin, rules.guard_level):,} queries"
    return Check(name, passed, low, -margin, words)


def bm25(judged: Judged, rules: PromoteSettings) -> Check:
    """Whether the challenger beats the lexical baseline, unless the settings say why it need not."""
    if judged.bm25 is None:
        waived = rules.without_bm25 is not None
        words = "BM25 was not judged" + (f"; waived: {rules.without_bm25}" if waived else "")
        return Check("bm25", None if waived else False, None, 0.0, words)
    ours, theirs = judged.counted(judged.challenger), judged.counted(judged.bm25)
    gain, p = _difference(ours, theirs), paired_randomisation(ours, theirs)
    words = (
        f"{rules.metric} {_of(ours):.4f} against BM25's {_of(theirs):.4f}: {gain:+.4f}, {_chance(p)}, on "
        f"{_queries(judged)}; asked for: better with p below {rules.bm25_level:g}"
    )
    passed = gain > 0 and p < rules.bm25_level
    if not passed and rules.without_bm25 is not None:
        return Check("bm25", None, gain, 0.0, f"{words}; waived: {rules.without_bm25}")
    return Check("bm25", passed, gain, 0.0, words)


def _queries(judged: Judged) -> str:
    whole, count = len(judged.challenger), len(judged.counted(judged.challenger))
    if not judged.leaks:
        return f"{whole:,} queries"
    return f"the {count:,} of {whole:,} queries that training has not given away"


def _needed(differences: Scores, margin: float, level: float) -> int:
    """Queries with which a model that is exactly as good passes four times in five."""
    normal = NormalDist()
    reach = normal.inv_cdf(1 - level) + normal.inv_cdf(_POWER)
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.5
    return max(len(differences) + 1, math.ceil((reach * spread / margin) ** 2))


def _of(scores: Scores) -> float:
    return float(scores.mean()) if len(scores) else 0.0


def _mean(judged: Judged, scores: Scores) -> float:
    return _of(judged.counted(scores))


def _difference(first: Scores, second: Scores) -> float:
    return float((first - second).mean()) if len(first) else 0.0


def _chance(p: float) -> str:
    return "p < 0.0002" if p < 0.0002 else f"p = {p:.4f}"
