"""The canary: each way to be broken or worse is refused for its own reason, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llara_core.indexing_settings import CanarySettings
from llara_core.operations.canary import CUTOVER, REFUSE, Answers, Evidence, drawn, judge, overlap

RULES = CanarySettings()
GOOD = Evidence(
    documents=100, indexed=100, missing=0, unknown=0, infinite=0, queries=20, itself=1.0,
    new=Answers(0.010, 0.50, 0.80), live=Answers(0.010, 0.50, 0.80), overlap=1.0,
)  # fmt: skip


def test_a_pair_as_good_as_the_live_one_serves() -> None:
    verdict = judge(GOOD, RULES)
    assert verdict.action == CUTOVER
    assert [check.name for check in verdict.checks] == [
        "sample", "corpus", "scores", "ids", "self", "ndcg", "recall", "overlap", "latency",
    ]  # fmt: skip
    assert all(check.passed for check in verdict.checks)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"queries": 0}, "sample"),
        ({"documents": 0, "indexed": 0}, "sample"),
        ({"missing": 1, "indexed": 99}, "corpus"),
        ({"infinite": 1}, "scores"),
        ({"unknown": 1}, "ids"),
        ({"itself": 0.94}, "self"),
        ({"itself": float("nan")}, "self"),
        ({"new": Answers(0.010, 0.44, 0.80)}, "ndcg"),
        ({"new": Answers(0.010, float("nan"), 0.80)}, "ndcg"),
        ({"new": Answers(0.010, 0.50, 0.74)}, "recall"),
        ({"overlap": 0.89}, "overlap"),
        ({"new": Answers(0.051, 0.50, 0.80)}, "latency"),
    ],
)
def test_each_fault_is_refused_for_its_own_reason(change: dict[str, object], name: str) -> None:
    verdict = judge(replace(GOOD, **change), RULES)  # type: ignore[arg-type]
    assert verdict.action == REFUSE
    assert verdict.reason.startswith(f"{name}: ")
    assert [check.name for check in verdict.checks if check.passed is False] == [name]


@pytest.mark.parametrize(
    "change",
    [
        {"new": Answers(0.050, 0.46, 0.76)},  # within the margins
        {"overlap": None},  # of another model
        {"new": Answers(0.010), "live": Answers(0.010)},  # no judgements
        {"new": Answers(0.019, 0.5, 0.8), "live": Answers(0.0001, 0.5, 0.8)},  # slower, and fast enough
    ],
)
def test_what_is_within_the_limits_or_cannot_be_compared_is_no_reason(change: dict[str, object]) -> None:
    assert judge(replace(GOOD, **change), RULES).action == CUTOVER  # type: ignore[arg-type]


def test_the_first_pair_is_judged_by_itself() -> None:
    first = replace(GOOD, live=None, overlap=None)
    verdict = judge(first, RULES)
    assert verdict.action == CUTOVER
    assert {check.name for check in verdict.checks if check.passed is None} == {
        "ndcg", "recall", "overlap", "latency",
    }  # fmt: skip
    assert judge(replace(first, infinite=3), RULES).action == REFUSE


def test_overlap_counts_what_the_live_pair_found() -> None:
    assert overlap([["a", "b"], ["c"]], [["b", "a"], ["d"]]) == pytest.approx(0.5)
    assert overlap([["a", "x"]], [["a", "b", "c", "d"]]) == pytest.approx(0.25)
    assert overlap([["a"], ["b"]], [[], ["b"]]) == 1.0
    assert overlap([[]], [[]]) == 1.0


def test_the_sample_is_fixed_by_its_seed() -> None:
    one = drawn(1000, 50, 3)
    np.testing.assert_array_equal(one, drawn(1000, 50, 3))
    assert len(set(one.tolist())) == 50
    assert (np.diff(one) > 0).all()
    assert one.tolist() != drawn(1000, 50, 4).tolist()
    assert drawn(3, 50, 0).tolist() == [0, 1, 2]
