from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from zenml.client import Client

from llara_core.operations import alerts
from llara_core.operations.alerts import Alert, AlertError
from steps.alerting import alert, raised

ONE = Alert("promotion skipped", "llara-retriever stays at version 3", "nothing to compare with", "info")
SECRET = "https://hooks.example/T0K3N-planted"


class Alerter:
    """As a stack has one; remembers what it posted."""

    name = "chat"

    def __init__(self, answer: bool | Exception = True) -> None:
        self.answer, self.messages = answer, []

    def post(self, message: str, params: Any = None) -> bool:
        self.messages.append(message)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Kinds of the alerts that went to the webhook."""
    found: list[str] = []
    monkeypatch.setenv(alerts.WEBHOOK, SECRET)
    monkeypatch.setattr(alerts, "post", lambda one, address: found.append(f"{one.kind} {address}"))
    return found


def stack_with(monkeypatch: pytest.MonkeyPatch, alerter: Alerter | None) -> None:
    monkeypatch.setattr(Client, "active_stack", property(lambda _: SimpleNamespace(alerter=alerter)))


def test_the_alerter_of_the_stack_comes_first(monkeypatch: pytest.MonkeyPatch, posted: list[str]) -> None:
    alerter = Alerter()
    stack_with(monkeypatch, alerter)
    assert alert(ONE)
    assert alerter.messages == [ONE.message()]
    assert not posted
    assert raised("promotion skipped")
    assert not raised("schedule missed")


@pytest.mark.parametrize("answer", [False, RuntimeError(f"no route to {SECRET}")])
def test_the_webhook_takes_over_from_an_alerter_that_fails(
    monkeypatch: pytest.MonkeyPatch, posted: list[str], caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    stack_with(monkeypatch, Alerter(answer))
    assert alert(ONE)
    assert posted == [f"promotion skipped {SECRET}"]
    assert SECRET not in caplog.text


def test_without_either_the_log_keeps_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.delenv(alerts.WEBHOOK, raising=False)
    stack_with(monkeypatch, None)
    assert not alert(ONE)
    assert "stays at version 3" in caplog.text
    assert alerts.WEBHOOK in caplog.text


def test_a_webhook_that_is_away_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(one: Alert, address: str) -> None:
        raise AlertError("it cannot be reached")

    stack_with(monkeypatch, None)
    monkeypatch.setenv(alerts.WEBHOOK, SECRET)
    monkeypatch.setattr(alerts, "post", away)
    assert not alert(ONE)
    assert "was not delivered" in caplog.text
    assert SECRET not in caplog.text
