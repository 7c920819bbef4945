"""The promotion gate: each check, the order of reasons, and planted challengers."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from llara_core.errors import ConfigError
from llara_core.operations.decision import Check, Verdict
from llara_core.operations.gate import judge
from llara_core.operations.gate_evidence import Cost, Evidence, Judged
from llara_core.operations.gate_limits import encode_latencies, folder_bytes, mean_cosine, measure
from llara_core.promotion_settings import GuardSettings, LimitSettings, PromoteSettings

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
COST = Cost(latency_ms=5.0, size_bytes=1_000_000, dimension=64, cosine=0.2)
QUERIES = 400


def scores(mean: float, seed: int = 0, queries: int = QUERIES) -> NDArray[np.float64]:
    """Scores whose mean is exactly as told, and whose differences from other seeds vary by 0.1 a query."""
    noise = np.random.default_rng(seed).normal(0, 0.07, queries)
    return mean + noise - noise.mean()


def judged(challenger: float, champion: float | None = 0.5, bm25: float | None = 0.4) -> Judged:
    return Judged(
        "primary",
        "test",
        scores(challenger, 1),
        None if champion is None else scores(champion, 2),
        None if bm25 is None else scores(bm25, 3),
    )


def evidence(primary: Judged, *guards: Judged, cost: Cost = COST) -> Evidence:
    former = None if primary.champion is None else COST
    return Evidence(primary, cost, guards, former, None if former is None else "1")


def check(verdict: Verdict, name: str) -> Check:
    return next(one for one in verdict.checks if one.name == name)


def test_a_better_challenger_is_promoted_and_the_reason_has_the_numbers() -> None:
    verdict = judge(evidence(judged(0.56), judged(0.5, 0.5)), PromoteSettings())
    assert verdict.action == "promote"
    for words in ("0.5600", "0.5000", "+0.0600", "400 queries", "nothing lost on primary"):
        assert words in verdict.reason
    assert Verdict.of(verdict.to_dict()) == verdict
    assert "| primary | holds |" in verdict.markdown()


@pytest.mark.parametrize(("gain", "least"), [(0.0, 0.0), (-0.1, 0.0), (0.03, 0.05)])
def test_not_better_by_enough_is_refused(gain: float, least: float) -> None:
    verdict = judge(evidence(judged(0.5 + gain)), PromoteSettings(minimum_gain=least))
    assert verdict.action == "refuse" and verdict.reason.startswith("primary: ndcg_at_10")
    assert check(verdict, "primary").value == pytest.approx(gain)


def test_a_gain_within_chance_is_refused() -> None:
    primary = Judged("p", "test", scores(0.51, 1, 120), scores(0.5, 2, 120), scores(0.3, 3, 120))
    verdict = judge(evidence(primary), PromoteSettings(minimum_gain=0.001))
    assert verdict.action == "refuse" and "p = " in verdict.reason


def test_a_forgotten_collection_is_refused_by_its_name() -> None:
    forgotten = replace(judged(0.35, 0.5), name="scifact")
    verdict = judge(evidence(judged(0.56), judged(0.5, 0.5), forgotten), PromoteSettings())
    assert verdict.action == "refuse" and verdict.reason.startswith("guard/scifact: ")
    assert check(verdict, "guard/primary").passed
    wide = replace(forgotten, margin=0.3)
    assert judge(evidence(judged(0.56), wide), PromoteSettings()).action == "promote"


def test_what_a_small_guard_cannot_rule_out_is_refused_with_the_queries_it_takes() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(20)
    shuffled = rng.permutation(values)
    small = Judged("small", "test", values, shuffled)
    verdict = judge(evidence(judged(0.56), small), PromoteSettings(margin=0.02))
    assert verdict.action == "refuse" and "which takes about" in verdict.reason
    needed = int(verdict.reason.split("takes about ")[1].split(" ")[0].replace(",", ""))
    assert needed > 20


def test_leaked_queries_do_not_count() -> None:
    marks = np.arange(QUERIES) >= 150
    ours = scores(0.5, 1)
    ours[marks] += 0.5 - ours[marks].mean()
    theirs = scores(0.5, 2)
    theirs[marks] += 0.5 - theirs[marks].mean()
    leaked = Judged("p", "test", np.where(marks, ours, 1.0), theirs, scores(0.2, 3), marks)
    verdict = judge(evidence(leaked), PromoteSettings())
    assert verdict.action == "refuse"
    assert "the 250 of 400 queries that training has not given away" in verdict.reason
    assert "with the queries that training gives away it would be +0." in verdict.reason
    blind = replace(leaked, leak_free=None)
    assert judge(evidence(blind), PromoteSettings()).action == "promote"  # so the marks decided


def test_too_few_queries_are_told_before_all_else() -> None:
    marks = np.arange(QUERIES) < 40
    verdict = judge(evidence(replace(judged(0.9), leak_free=marks)), PromoteSettings())
    assert verdict.action == "refuse" and verdict.reason.startswith("queries: the 40 of 400")
    none = np.zeros(QUERIES, np.bool_)
    verdict = judge(evidence(replace(judged(0.9), leak_free=none)), PromoteSettings(minimum_queries=1))
    assert verdict.action == "refuse"


@pytest.mark.parametrize("rival", [0.6, 0.55])
def test_bm25_must_be_beaten_also_by_the_first_unless_waived_with_a_reason(rival: float) -> None:
    first = evidence(judged(0.55, None, rival))
    verdict = judge(first, PromoteSettings())
    assert verdict.action == "refuse" and verdict.reason.startswith("bm25: ")
    waived = judge(first, PromoteSettings(without_bm25="lexical search is not offered here"))
    assert waived.action == "promote" and waived.reason.startswith("there was no champion yet")
    assert check(waived, "bm25").passed is None
    assert "waived: lexical search is not offered here" in check(waived, "bm25").words


def test_bm25_that_was_not_judged_is_not_beaten() -> None:
    assert judge(evidence(judged(0.56, 0.5, None)), PromoteSettings()).action == "refuse"


@pytest.mark.parametrize(
    ("cost", "limits", "name"),
    [
        (replace(COST, cosine=0.99), {}, "collapse"),
        (replace(COST, cosine=float("nan")), {}, "collapse"),
        (replace(COST, latency_ms=20.0), {}, "latency/ratio"),
        (replace(COST, size_bytes=2_100_000), {}, "size/ratio"),
        (COST, {"latency_ms": 4.0}, "latency"),
        (COST, {"size_mb": 0.9}, "size"),
        (COST, {"dimension": 63}, "dimension"),
    ],
)
def test_what_costs_too_much_is_refused(cost: Cost, limits: dict[str, float], name: str) -> None:
    rules = PromoteSettings(limits=LimitSettings.parse(limits, "limits"))
    verdict = judge(evidence(judged(0.56), cost=cost), rules)
    assert verdict.action == "refuse" and verdict.reason.startswith(f"{name}: ")
    assert judge(evidence(judged(0.56)), PromoteSettings()).action == "promote"


def test_no_limit_is_no_check() -> None:
    free = LimitSettings(latency_ratio=None, size_ratio=None, cosine=None)
    verdict = judge(evidence(judged(0.56), cost=replace(COST, cosine=1.0)), PromoteSettings(limits=free))
    assert verdict.action == "promote"
    assert {one.name for one in verdict.checks} == {"queries", "primary", "bm25"}


def test_what_is_blocked_is_refused_whatever_its_scores() -> None:
    verdict = judge(replace(evidence(judged(0.9)), blocked="it was rolled back (slow)"), PromoteSettings())
    assert verdict.action == "refuse" and verdict.reason == "it was rolled back (slow)"


def test_evidence_survives_json() -> None:
    marks = np.arange(QUERIES) > 5
    before = evidence(replace(judged(0.56), leak_free=marks), replace(judged(0.5), margin=0.1))
    after = Evidence.of(before.to_dict())
    assert after.to_dict() == before.to_dict()
    assert judge(after, PromoteSettings()) == judge(before, PromoteSettings())


def test_scores_of_other_queries_are_refused() -> None:
    with pytest.raises(ValueError, match=r"champion has shape \(3,\), the challenger \(4,\)"):
        Judged("x", "test", np.zeros(4), np.zeros(3))
    with pytest.raises(ValueError, match="no numbers"):
        Judged("x", "test", np.array([0.1, np.nan]))


def test_settings_refuse_a_waiver_without_a_reason_and_two_guards_of_one_name() -> None:
    with pytest.raises(ConfigError, match="without_bm25"):
        PromoteSettings.parse({"without_bm25": "no"}, "promote")
    with pytest.raises(ConfigError, match="stands there twice"):
        PromoteSettings.parse({"guards": [{"source": "a"}, {"source": "a"}]}, "promote")
    guard = GuardSettings(source="hf:someone/set", name="set", split="dev")
    assert (guard.collection.source, guard.collection.name) == ("hf:someone/set", "set")


class Clock:
    """An encoder that takes as long as it is told, by a clock of the test's own."""

    dimension, fingerprint = 2, "clock"

    def __init__(self, time: list[float], seconds: Iterator[float]) -> None:
        self.time, self.seconds = time, seconds

    def encode_queries(self, texts: list[str]) -> NDArray[np.float32]:
        assert len(texts) == 1
        self.time[0] += next(self.seconds)
        return np.zeros((1, 2), np.float32)

    def encode_passages(self, passages: list[str]) -> NDArray[np.float32]:
        raise AssertionError(passages)


def test_latency_is_the_best_round_of_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    time = [0.0]
    monkeypatch.setattr("llara_core.operations.gate_limits.time.perf_counter", lambda: time[0])
    slow = Clock(time, iter([0.9, 0.9, 0.02, 0.02, 0.5, 0.5]))
    fast = Clock(time, iter([0.1, 0.1, 0.1, 0.1, 0.004, 0.006]))
    assert encode_latencies([slow, fast], ["a", "b"], rounds=2) == pytest.approx([20.0, 5.0])
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "weights").write_bytes(b"12345")
    steady = Clock(time, iter([0.01] * 100))
    [cost] = measure([steady], [tmp_path], [np.eye(2, dtype=np.float32)], ["a"])
    assert (cost.size_bytes, cost.dimension, cost.cosine) == (5, 2, 0.0)
    assert cost.latency_ms == pytest.approx(10.0) and folder_bytes(tmp_path / "sub") == 5


def test_mean_cosine_is_that_of_all_pairs() -> None:
    vectors = np.random.default_rng(3).normal(size=(40, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    products = vectors @ vectors.T
    pairs = products[np.triu_indices(40, 1)]
    assert mean_cosine(vectors) == pytest.approx(pairs.mean(), abs=1e-6)
    assert mean_cosine(np.tile(vectors[:1], (3000, 1))) == pytest.approx(1.0, abs=1e-5)
    assert mean_cosine(vectors[:1]) == 0.0


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("planted_challengers")


@pytest.mark.parametrize("place", range(5))
def test_planted_challengers_get_the_right_decision(planted: ModuleType, place: int) -> None:
    scenario, runs = planted.SCENARIOS[place], 30
    right = 0
    for run in range(runs):
        told = planted.evidence(scenario, np.random.default_rng([7, place, run]))
        verdict = judge(told, PromoteSettings())
        right += (verdict.action == "promote") is scenario.promote
    assert right >= runs - 1, f"{scenario.name}: {right} of {runs} (the benchmark shows 99% over many runs)"


def test_planted_gains_are_what_they_say(planted: ModuleType) -> None:
    better = next(one for one in planted.SCENARIOS if one.name == "better")
    rng = np.random.default_rng(0)
    primary = planted.evidence(better, rng, 200_000, (10, 10)).primary
    assert (primary.challenger - primary.champion).mean() == pytest.approx(better.gain, abs=0.004)
    assert (primary.bm25 - primary.champion).mean() == pytest.approx(planted.BEHIND, abs=0.004)
