"""The average over collections: each counts once, however many queries it has.

CQADupStack's forums are collections of their own, but count once together, as in BEIR's average.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.evaluation.beir_sets import CQADUPSTACK
from llara_core.evaluation.results import SystemResult
from llara_core.evaluation.significance import holm, paired_randomisation

_BLOCK = 1 << 22  # numbers drawn at once: 32 MiB


def average_of(
    results: Mapping[str, Sequence[SystemResult]], metric: str, seed: int, confidence: float = 0.95
) -> dict[str, Any] | None:
    """Every system's average over the collections, and its difference from the first system's.

    Args:
        results: collection to systems, in the same order on each, the baseline first.
        metric: the score averaged.
        seed: of the bootstrap and the randomisation test.
        confidence: of the intervals, in (0, 1).

    Returns:
        ``systems`` and ``pairs`` as ``side_by_side`` describes them; None for a single collection.
    """
    if len(results) < 2:
        return None
    names = [one.name for one in next(iter(results.values()))]
    scores = {
        name: [systems[place].per_query[metric] for systems in results.values()]
        for place, name in enumerate(names)
    }
    shares = _shares(list(results))

    def interval(parts: Sequence[NDArray[np.float64]]) -> list[float]:
        return list(stratified_bootstrap(parts, shares, confidence=confidence, seed=seed))

    p_values = {name: _p_value(scores[name], scores[names[0]], shares, seed) for name in names[1:]}
    adjusted = holm(p_values)
    pairs = []
    for name in names[1:]:
        differences = [ours - theirs for ours, theirs in zip(scores[name], scores[names[0]], strict=True)]
        by_collection = np.array([part.mean() for part in differences])
        pairs.append(
            {
                "system": name,
                "baseline": names[0],
                "difference": float(shares @ by_collection),
                "interval": interval(differences),
                "p_value": p_values[name],
                "p_holm": adjusted[name],
                "higher": int((by_collection > 0).sum()),
                "lower": int((by_collection < 0).sum()),
                "equal": int((by_collection == 0).sum()),
            }
        )
    means = {
        name: {"mean": float(shares @ [part.mean() for part in parts]), "interval": interval(parts)}
        for name, parts in scores.items()
    }
    return {"collections": len(set(map(_set_of, results))), "systems": means, "pairs": pairs}


def _p_value(
    ours: Sequence[NDArray[np.float64]],
    theirs: Sequence[NDArray[np.float64]],
    shares: NDArray[np.float64],
    seed: int,
) -> float:
    """The randomisation test of the difference of the averages.

    Each query's scores are weighed by what it counts in the average: the sum of the weighed differences
    is then the difference of the averages, and flipping their signs tests exactly that.
    """
    sizes = [len(part) for part in theirs]
    weights = np.repeat(shares / sizes, sizes)
    return paired_randomisation(np.concatenate(ours) * weights, np.concatenate(theirs) * weights, seed=seed)


def _shares(collections: Sequence[str]) -> NDArray[np.float64]:
    """What each collection counts in the average, [C]; they add up to 1."""
    sets = Counter(map(_set_of, collections))
    return np.array([1 / (len(sets) * sets[_set_of(name)]) for name in collections])


def _set_of(collection: str) -> str:
    return CQADUPSTACK if collection.startswith(f"{CQADUPSTACK}-") else collection


def stratified_bootstrap(
    parts: Sequence[NDArray[np.float64]],
    shares: NDArray[np.float64],
    *,
    confidence: float = 0.95,
    rounds: int = 2_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the weighted average of the parts' means.

    Queries are resampled within each collection; the collections themselves are not, so the interval
    speaks of these collections with other queries, not of other collections.

    Args:
        parts: per collection its queries' scores or differences, [Q] each, Q ≥ 1.
        shares: what each part counts, adding up to 1, [parts].
        confidence: in (0, 1).
        rounds: resamples.
        seed: of the draw.

    Returns:
        Lower and upper bound.

    Source: stratified bootstrap, Efron and Tibshirani, *An Introduction to the Bootstrap* (1993).
    """
    rng = np.random.default_rng(seed)
    total = np.zeros(rounds)
    for part, share in zip(parts, shares, strict=True):
        step = max(1, _BLOCK // len(part))
        for start in range(0, rounds, step):
            size = (min(step, rounds - start), len(part))
            total[start : start + size[0]] += share * part[rng.integers(0, len(part), size)].mean(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(total, [tail, 1 - tail])
    return float(low), float(high)
