"""Which arm of a training run competes: the adapted one only if adaptation paid. Issue 6, point 1."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from llara_core.evaluation.comparison import Comparison
from llara_core.evaluation.contrasts import WITHOUT_ADAPTATION
from llara_core.evaluation.significance import paired_randomisation
from llara_core.operations.decision import Check
from llara_core.operations.gate_evidence import Scores
from llara_core.promotion_settings import PromoteSettings

ADAPTED = "finetuned"


def choose_arm(
    comparison: Comparison, leak_free: NDArray[np.bool_] | None, rules: PromoteSettings
) -> tuple[str, Check]:
    """Return the name of the system that shall compete, and why.

    Adaptation paid if the adapted arm is better by a paired randomisation test, on queries that training has
    not given away. Where that cannot be shown the unadapted model competes: it owes less to chance, and it
    costs less to make again.

    Args:
        comparison: how both arms were judged.
        leak_free: marks of the queries that count, [Q]; None: all.
        rules: metric, level and least gain of the choice.
    """
    ours, theirs = scores_of(comparison, ADAPTED, rules.metric), None
    if any(one["name"] == WITHOUT_ADAPTATION for one in comparison.systems):
        theirs = scores_of(comparison, WITHOUT_ADAPTATION, rules.metric)
    if theirs is None:
        return ADAPTED, Check("adaptation", None, None, None, "there is no unadapted arm to compare with")
    if leak_free is not None:
        ours, theirs = ours[leak_free], theirs[leak_free]
    rule = rules.adaptation
    gain = float((ours - theirs).mean()) if len(ours) else 0.0
    p = paired_randomisation(ours, theirs)
    paid = gain > 0 and gain >= rule.minimum_gain and p < rule.level
    words = (
        f"the adapted arm is {gain:+.4f} {rules.metric} from the unadapted one (p = {p:.4f}, {len(ours):,} "
        f"queries; asked for: at least +{rule.minimum_gain:g} with p below {rule.level:g}): "
        + ("adaptation paid" if paid else "adaptation has not paid, so the unadapted model competes")
    )
    return (
        ADAPTED if paid else WITHOUT_ADAPTATION,
        Check("adaptation", paid or None, gain, rule.minimum_gain, words),
    )


def scores_of(comparison: Comparison, system: str, metric: str) -> Scores:
    """Return the scores per query of a system, [Q].

    Raises:
        KeyError: the comparison does not hold that system or metric.
    """
    found = next((one for one in comparison.systems if one["name"] == system), None)
    if found is None:
        known = ", ".join(one["name"] for one in comparison.systems)
        raise KeyError(f"the comparison holds no system {system!r}; it has: {known}")
    return np.array(found["per_query"][metric], np.float64)


def marks_of(subsets: Mapping[str, NDArray[np.bool_]], names: tuple[str, ...]) -> NDArray[np.bool_] | None:
    """Return the queries that stand in all of the named subsets, [Q]; None where none of them is known.

    Args:
        subsets: of ``leak_free_subsets``; empty where the collection has no training split.
        names: those that count.
    """
    chosen = [subsets[name] for name in names if name in subsets]
    return np.logical_and.reduce(chosen) if chosen else None
