"""Which arm competes: the adapted one only where adaptation paid."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from llara_core.evaluation.comparison import Comparison
from llara_core.operations.gate_arms import choose_arm, marks_of, scores_of
from llara_core.promotion_settings import ArmSettings, PromoteSettings

QUERIES = 200


def comparison(**means: float) -> Comparison:
    rng = np.random.default_rng(0)
    systems = [
        {"name": name, "per_query": {"ndcg_at_10": (mean + rng.normal(0, 0.05, QUERIES)).tolist()}}
        for name, mean in means.items()
    ]
    return Comparison(collection={}, query_ids=[], systems=systems, subsets=[])


@pytest.mark.parametrize(
    ("adapted", "unadapted", "least", "chosen"),
    [
        (0.6, 0.5, 0.0, "finetuned"),
        (0.5, 0.6, 0.0, "finetuned_without_adaptation"),
        (0.5, 0.5, 0.0, "finetuned_without_adaptation"),
        (0.6, 0.5, 0.2, "finetuned_without_adaptation"),
    ],
)
def test_the_adapted_arm_competes_only_if_adaptation_paid(
    adapted: float, unadapted: float, least: float, chosen: str
) -> None:
    rules = PromoteSettings(adaptation=ArmSettings(level=0.001, minimum_gain=least))
    judged = comparison(finetuned=adapted, finetuned_without_adaptation=unadapted)
    system, check = choose_arm(judged, None, rules)
    assert system == chosen
    assert ("has not paid" in check.words) is (chosen != "finetuned")


def test_without_an_unadapted_arm_the_adapted_one_competes() -> None:
    system, check = choose_arm(comparison(bm25=0.4, finetuned=0.1), None, PromoteSettings())
    assert system == "finetuned" and check.passed is None and "no unadapted arm" in check.words


def test_only_queries_that_training_has_not_given_away_tell() -> None:
    judged = comparison(finetuned=0.5, finetuned_without_adaptation=0.5)
    seen: NDArray[np.bool_] = np.arange(QUERIES) < 100
    raised = np.where(seen, 0.9, scores_of(judged, "finetuned_without_adaptation", "ndcg_at_10"))
    leaked = Comparison(
        collection={},
        query_ids=[],
        systems=[{"name": "finetuned", "per_query": {"ndcg_at_10": raised.tolist()}}, judged.systems[1]],
        subsets=[],
    )
    assert choose_arm(leaked, None, PromoteSettings())[0] == "finetuned"
    assert choose_arm(leaked, ~seen, PromoteSettings())[0] == "finetuned_without_adaptation"
    assert choose_arm(leaked, np.zeros(QUERIES, np.bool_), PromoteSettings())[0] != "finetuned"


def test_marks_are_those_of_all_named_subsets() -> None:
    subsets = {
        "no_near_duplicate": np.array([True, True, False]),
        "unseen_documents": np.array([False, True, True]),
    }
    both = marks_of(subsets, ("no_near_duplicate", "unseen_documents"))
    assert both is not None and both.tolist() == [False, True, False]
    assert marks_of(subsets, ()) is None and marks_of({}, ("no_near_duplicate",)) is None


def test_a_system_that_was_not_judged_is_named() -> None:
    with pytest.raises(KeyError, match="it has: bm25"):
        scores_of(comparison(bm25=0.3), "finetuned", "ndcg_at_10")


def test_only_what_chooses_an_arm_is_kept_for_registering() -> None:
    rules = PromoteSettings(level=0.1, margin=0.2, without_bm25="a reason long enough", metric="mrr_at_10")
    assert rules.choosing == PromoteSettings(metric="mrr_at_10")
