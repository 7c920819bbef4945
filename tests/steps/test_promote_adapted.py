from __future__ import annotations

import math

import pytest

from steps.promote_adapted import decide


def judgement(before: float, after: float, cosine: float = 0.3) -> dict[str, dict[str, float]]:
    return {"base": {"loss": before, "cosine": 0.1}, "adapted": {"loss": after, "cosine": cosine}}


@pytest.mark.parametrize(
    ("before", "after", "cosine", "promoted", "words"),
    [
        (9.0, 6.5, 0.3, True, "6.5000 against the base's 9.0000"),
        (6.5, 6.5, 0.3, False, "did not lower"),
        (6.5, 9.0, 0.3, False, "did not lower"),
        (9.0, math.nan, 0.3, False, "not finite"),
        (9.0, math.inf, 0.3, False, "not finite"),
        (9.0, 6.5, 0.995, False, "0.995: collapsed"),
        (9.0, 6.5, math.nan, False, "collapsed"),
    ],
)
def test_a_good_start_has_learnt_something_and_has_not_collapsed(
    before: float, after: float, cosine: float, promoted: bool, words: str
) -> None:
    decision = decide(judgement(before, after, cosine))
    assert decision.promoted is promoted
    assert words in decision.reason
