"""The promotion gate: does a new version take the place of the champion? Issue 6, point 1.

It does if every check holds: better on the primary collection, no guarded collection forgotten, better than
BM25, and within limits. All must hold, so the levels of the single tests need no correction for their
number: more checks only make the gate stricter (an intersection-union test; Berger, Technometrics 1982).
"""

from __future__ import annotations

from llara_core.operations.decision import Check, Verdict, first_failed
from llara_core.operations.gate_checks import bm25, enough_queries, guard, primary
from llara_core.operations.gate_evidence import Evidence
from llara_core.operations.gate_limits import limits
from llara_core.promotion_settings import PromoteSettings

PROMOTE, REFUSE, SKIP = "promote", "refuse", "skip"


def judge(evidence: Evidence, rules: PromoteSettings) -> Verdict:
    """Return whether the challenger becomes champion, and by which numbers.

    Only queries that training has not given away count, so that a challenger which has seen the evaluation
    gains nothing by it.

    Args:
        evidence: scores per query of both models on the same data, and their costs.
        rules: what is asked for.

    Returns:
        The action ``promote`` or ``refuse``; its reason is the first check that failed.
    """
    if evidence.blocked is not None:
        blocked = Check("standing", False, None, None, evidence.blocked)
        return Verdict(REFUSE, evidence.blocked, (blocked,))
    better = primary(evidence.primary, rules)
    checks = (
        enough_queries(evidence.primary, rules),
        better,
        *(guard(one, rules) for one in evidence.guards),
        bm25(evidence.primary, rules),
        *limits(evidence, rules.limits),
    )
    failed = first_failed(checks)
    if failed is not None:
        return Verdict(REFUSE, f"{failed.name}: {failed.words}", checks)
    guarded = [check.name for check in checks if check.name.startswith("guard/") and check.passed]
    kept = (
        f"; nothing lost on {', '.join(name.removeprefix('guard/') for name in guarded)}" if guarded else ""
    )
    return Verdict(PROMOTE, better.words + kept, checks)
