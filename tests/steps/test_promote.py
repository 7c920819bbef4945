"""The steps around the gate: what is decided against which champion, and what is told where."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from llara_core.operations.decision import Check, Verdict
from llara_core.operations.gate_evidence import Cost, Evidence, Judged
from llara_core.promotion_settings import PromoteSettings
from steps import promotion, registry
from steps.promote import decide, earlier
from steps.promotion import Decision

COST = Cost(1.0, 1, 4, 0.1)


def evidence(gain: float, champion: str | None = "3") -> dict[str, Any]:
    noise = np.random.default_rng(0).normal(0, 0.01, 200)
    champions = None if champion is None else 0.5 - noise
    judged = Judged("p", "test", 0.5 + gain + noise, champions, np.full(200, 0.1))
    return Evidence(judged, COST, (), None if champion is None else COST, champion).to_dict()


@pytest.mark.parametrize(("gain", "action"), [(0.1, "promote"), (0.0, "refuse")])
def test_the_gate_decides(gain: float, action: str) -> None:
    assert decide(evidence(gain), "3", PromoteSettings()).action == action


@pytest.mark.parametrize("told", [{}, evidence(0.1, None), evidence(0.1, "2")])
def test_evidence_about_another_champion_does_not_count(told: dict[str, Any]) -> None:
    verdict = decide(told, "3", PromoteSettings())
    assert verdict.action == "refuse"
    assert "the champion changed while this version was judged" in verdict.reason
    assert "now 3" in verdict.reason


def test_the_first_version_becomes_champion() -> None:
    verdict = decide(evidence(0.1, None), None, PromoteSettings())
    assert verdict.action == "promote" and verdict.reason.startswith("there was no champion yet")


def test_a_repeated_promotion_tells_what_was_decided() -> None:
    before = Verdict("promote", "better", (Check("primary", True, 0.1, 0.0, "words"),))
    assert earlier({registry.VERDICT: json.dumps(before.to_dict())}) == before
    assert earlier({registry.REASON: "by hand"}) == Verdict("promote", "by hand")
    assert earlier({registry.VERDICT: "no JSON"}).reason == "it is the champion already"


class Client:
    """Keeps the tags of versions."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}

    def set_model_version_tag(self, name: str, number: str, key: str, value: str) -> None:
        assert (name, number) == ("llara-retriever", "4")
        self.tags[key] = value


@pytest.mark.parametrize("promoted", [True, False])
def test_a_decision_is_readable_everywhere_and_a_refusal_is_told(
    promoted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, texts, metadata, alerts = Client(), {}, [], []
    monkeypatch.setattr("mlflow.MlflowClient", lambda: client)
    monkeypatch.setattr(promotion, "log_metadata", metadata.append)
    monkeypatch.setattr(promotion, "alert", alerts.append)
    monkeypatch.setattr(promotion.tracking, "set_tags", lambda values: None)
    monkeypatch.setattr(promotion.tracking, "log_text", lambda text, file: texts.update({file: text}))
    monkeypatch.setattr(promotion.tracking, "log_json", lambda value, file: texts.update({file: value}))
    verdict = Verdict("refuse", "guard/x: forgotten", (Check("guard/x", False, -0.1, -0.05, "forgotten"),))
    promotion.record("llara-retriever", "4", Decision(promoted, verdict.reason), verdict)
    assert client.tags[registry.REASON] == "guard/x: forgotten"
    assert Verdict.of(json.loads(client.tags[registry.VERDICT])) == verdict
    assert "| guard/x | **fails** |" in texts["promotion.md"]
    assert texts["promotion.json"] == verdict.to_dict()
    assert metadata[0]["promotion"]["checks"] == verdict.markdown()
    assert [(one.kind, one.text) for one in alerts] == (
        [] if promoted else [("promotion refused", "guard/x: forgotten")]
    )
