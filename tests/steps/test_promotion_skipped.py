"""Where there is nothing to promote, somebody is told."""

from __future__ import annotations

import pytest

from llara_core.operations.alerts import Alert
from llara_core.promotion_settings import PromoteSettings
from steps import promote as module


def test_without_a_version_the_promotion_is_skipped_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Alert] = []
    monkeypatch.setattr(module, "alert", told.append)
    registration = {
        "name": "m", "version": None, "system": "finetuned", "arm": "adapted", "collection": "c",
        "scores": {},
    }  # fmt: skip
    decision = module.promote.entrypoint(registration, {}, PromoteSettings())
    assert decision["promoted"] is False
    assert decision["version"] is None
    assert decision["verdict"]["action"] == "skip"
    (one,) = told
    assert one.kind == "promotion skipped"
    assert one.facts == {"model": "m"}
    assert "no MLflow model registry" in one.text
