"""The rule table of a tick, row by row."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from llara_core.operations.decision import Verdict
from llara_core.operations.freshness import Observation, Quality, decide
from llara_core.operations.freshness_documents import Changes
from llara_core.operations.freshness_queries import Shift
from llara_core.retraining_settings import FreshJudgedSettings, RetrainingSettings

SETTINGS = RetrainingSettings(indexing="configs/indexing.yaml")
GOOD = Quality(0.50, 0.45, 0.55, 0.52, 200, "ndcg_at_10")
CALM: dict[str, Any] = {
    "champion": "3", "age_days": 10.0, "live": "", "index": Changes(100, 0, 0, 0, 0),
    "documents": Changes(95, 0, 5, 0, 0), "queries": Shift(0.02, 0.03, 0.2, 500, 500), "quality": GOOD,
    "data_hash": "d",
}  # fmt: skip

NO_CHAMPION = {"champion": None, "documents": None, "queries": None, "quality": None, "age_days": None}


def tick(settings: RetrainingSettings = SETTINGS, **seen: Any) -> Verdict:
    return decide(Observation(**{**CALM, **seen}), settings)


def checks(verdict: Verdict) -> dict[str, bool | None]:
    return {check.name: check.passed for check in verdict.checks}


def test_nothing_to_do() -> None:
    verdict = tick()
    assert verdict.action == "skip"
    assert all(passed is True for passed in checks(verdict).values())


@pytest.mark.parametrize(
    ("seen", "action", "by"),
    [
        (NO_CHAMPION, "train", "champion"),
        ({"documents": Changes(89, 0, 5, 3, 3)}, "train", "documents"),
        ({"documents": Changes(90, 0, 5, 3, 2)}, "skip", ""),  # exactly at the limit holds
        ({"documents": Changes(50, 50, 0, 0, 0)}, "skip", ""),  # a new id teaches nothing
        ({"queries": Shift(0.06, 0.03, 0.002, 500, 500)}, "train", "queries"),
        ({"queries": Shift(0.04, 0.03, 0.002, 500, 500)}, "skip", ""),  # significant, but small
        ({"queries": Shift(0.06, 0.07, 0.2, 60, 60)}, "skip", ""),  # great, but by chance
        ({"quality": Quality(0.40, 0.35, 0.45, 0.52, 200, "ndcg_at_10")}, "train", "quality"),
        ({"quality": Quality(0.40, 0.30, 0.50, 0.52, 200, "ndcg_at_10")}, "skip", ""),  # not surely
        ({"quality": Quality(0.10, 0.05, 0.15, 0.52, 5, "ndcg_at_10")}, "skip", ""),  # too few to tell
        ({"age_days": 90.5}, "train", "age"),
        ({"live": "nothing is live yet"}, "refresh", "live"),
        ({"index": Changes(99, 0, 1, 0, 0)}, "refresh", "index"),
        ({"index": Changes(99, 1, 0, 0, 0)}, "refresh", "index"),  # an index gives ids back
        ({"index": Changes(99, 0, 1, 0, 0), "age_days": 91.0}, "train", "age"),  # training weighs more
    ],
)  # fmt: skip
def test_rules(seen: dict[str, Any], action: str, by: str) -> None:
    verdict = tick(**seen)
    assert verdict.action == action
    if by:
        assert verdict.reason.startswith(f"{by}: ")
        assert checks(verdict)[by] is False


def test_what_was_tried_is_not_tried_again() -> None:
    tried = "version 4 was trained on the same data with the same settings and refused (primary: worse)"
    old = tick(age_days=200.0, tried=tried)
    assert old.action == "skip"
    assert old.reason.startswith("age: ")
    assert "version 4" in old.reason
    stale = tick(age_days=200.0, tried=tried, live="version 1 serves, the champion is version 3")
    assert stale.action == "refresh"
    assert "no training, since version 4" in stale.reason
    assert checks(stale)["age"] is False
    assert tick(tried=tried).action == "skip"


def test_another_at_work() -> None:
    verdict = decide(Observation(busy="run X (process 7 on h, since then)"), SETTINGS)
    assert (verdict.action, verdict.reason) == ("skip", "run X (process 7 on h, since then) is under way")


def test_what_is_absent_asks_for_nothing_and_says_why() -> None:
    absent = {name: f"no {name}" for name in ("documents", "queries", "quality", "index", "live")}
    verdict = tick(documents=None, queries=None, quality=None, index=None, live=None, absent=absent)
    assert verdict.action == "skip"
    told = {check.name: (check.passed, check.words) for check in verdict.checks}
    for name, words in absent.items():
        assert told[name] == (None, words)


def test_without_a_live_index_none_is_refreshed() -> None:
    settings = RetrainingSettings(indexing=None, maximum_age_days=None)
    verdict = tick(settings, live=None, index=None, age_days=1e6)
    assert verdict.action == "skip"
    assert checks(verdict)["live"] is checks(verdict)["index"] is checks(verdict)["age"] is None


def test_what_was_cut_off_is_told() -> None:
    verdict = tick(unfinished="tick X decided to train and did not end well")
    assert checks(verdict)["unfinished"] is None
    assert verdict.action == "skip"


def test_records_go_through_json() -> None:
    seen = Observation(**CALM, absent={"a": "b"})
    assert Observation.of(json.loads(json.dumps(seen.to_dict()))) == seen
    assert Observation.of(Observation(busy="x").to_dict()) == Observation(busy="x")
    verdict = tick()
    assert Verdict.of(json.loads(json.dumps(verdict.to_dict(), allow_nan=False))) == verdict
    assert "| documents | holds |" in verdict.markdown()


def test_quality_has_an_interval() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(200)
    found = Quality.of(scores, 0.7, "ndcg_at_10", FreshJudgedSettings(split="fresh"))
    assert found.low < found.mean < found.high
    assert found.queries == 200
    empty = Quality.of(np.zeros(0), 0.7, "ndcg_at_10", FreshJudgedSettings(split="fresh"))
    assert empty.queries == 0
