"""Decisions that a person can read at three in the morning: what was found, what was asked, what follows.

The promotion gate, the retraining tick and the canary all decide by named checks; ZenML, MLflow, the report
and alerts show the same record of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """One rule applied to one number.

    Args:
        name: of the rule, e.g. ``primary`` or ``guard/scifact``.
        passed: True, False, or None where it does not apply or was waived; ``words`` say why.
        value: what was found; None where nothing could be measured.
        threshold: what it was held against, in the same unit.
        words: one sentence with both numbers and their unit.
    """

    name: str
    passed: bool | None
    value: float | None
    threshold: float | None
    words: str


@dataclass(frozen=True)
class Verdict:
    """What was decided and why.

    Args:
        action: what follows, e.g. ``promote``, ``refuse``, ``train``, ``refresh``, ``skip``.
        reason: one sentence: the check that decided.
        checks: all rules that were looked at, in the order of their weight.
    """

    action: str
    reason: str
    checks: tuple[Check, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for artifacts, metadata and JSON."""
        return {
            "action": self.action,
            "reason": self.reason,
            "checks": [dict(vars(check)) for check in self.checks],
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Verdict:
        """The verdict that ``to_dict`` wrote."""
        return cls(
            str(values["action"]), str(values["reason"]), tuple(Check(**check) for check in values["checks"])
        )

    def markdown(self) -> str:
        """The record as a Markdown table under one sentence."""
        lines = [f"**{self.action}**: {self.reason}", ""]
        lines += ["| check | result | found | asked | |", "|---|---|---|---|---|"]
        lines += [f"| {' | '.join(_cells(check))} |" for check in self.checks]
        return "\n".join(lines) + "\n"


def first_failed(checks: Sequence[Check]) -> Check | None:
    """The weightiest check that did not hold, or None."""
    return next((check for check in checks if check.passed is False), None)


def _cells(check: Check) -> list[str]:
    result = {True: "holds", False: "**fails**", None: "-"}[check.passed]
    numbers = ["" if number is None else f"{number:.4g}" for number in (check.value, check.threshold)]
    return [check.name, result, *numbers, check.words.replace("|", "\\|")]
