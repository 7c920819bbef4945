from __future__ import annotations

import pytest

from llara_core.config import PromoteSettings
from steps.promote import decide
from steps.registry import Score


def score(value: float, collection: str = "pycode", data: str = "d1", split: str = "test") -> Score:
    return Score(value, collection, data, split)


def not_called() -> float:
    raise AssertionError("the champion must not be judged again")


def test_the_first_version_becomes_champion() -> None:
    assert decide(score(0.1), False, None, PromoteSettings(), not_called).promoted


@pytest.mark.parametrize(
    ("new", "gain", "promoted"), [(0.51, 0.0, True), (0.5, 0.0, False), (0.51, 0.02, False)]
)
def test_it_must_be_better_by_more_than_the_least_gain(new: float, gain: float, promoted: bool) -> None:
    decision = decide(score(new), True, score(0.5), PromoteSettings(minimum_gain=gain), not_called)
    assert decision.promoted is promoted
    assert "0.5000" in decision.reason


@pytest.mark.parametrize("other", [score(0.1, collection="scifact"), score(0.1, split="dev")])
def test_scores_on_other_collections_do_not_compare(other: Score) -> None:
    decision = decide(score(0.9), True, other, PromoteSettings(), not_called)
    assert not decision.promoted
    assert "not comparable" in decision.reason


@pytest.mark.parametrize(("again", "promoted"), [(0.55, True), (0.65, False)])
def test_a_champion_of_older_data_is_judged_again(again: float, promoted: bool) -> None:
    decision = decide(score(0.6, data="new"), True, score(0.1, data="old"), PromoteSettings(), lambda: again)
    assert decision.promoted is promoted
    assert "judged again" in decision.reason


def test_a_champion_without_scores_stays() -> None:
    decision = decide(score(0.9), True, None, PromoteSettings(), not_called)
    assert not decision.promoted
    assert "by hand" in decision.reason
