from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from llara_core.operations import alerts
from pipelines import unattended
from steps import alerting
from tests.operations_webhook import TOKEN, Webhook


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    service = Webhook()
    monkeypatch.setenv(alerts.WEBHOOK, service.address)
    monkeypatch.setattr(alerting, "_raised", set())
    monkeypatch.setattr(sys, "argv", ["pipelines", "training", "-c", "configs/none.yaml"])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    yield service
    service.close()


def test_a_run_that_cannot_start_is_told(webhook: Webhook) -> None:
    assert unattended.alarm("configs/none.yaml: no such configuration file")
    (body,) = webhook.bodies
    assert (body["kind"], body["severity"]) == ("run failed", "critical")
    assert body["title"] == "pipelines training -c configs/none.yaml"
    assert "no such configuration file" in body["text"]


def test_what_the_hook_of_a_step_has_told_is_not_told_again(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerting, "_raised", {"run failed"})
    assert not unattended.alarm("again")
    assert not webhook.bodies


def test_a_person_at_the_keyboard_is_left_alone(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert not unattended.alarm("a typing error")
    assert not webhook.bodies


def test_without_a_webhook_nobody_is_told(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(alerts.WEBHOOK)
    assert not unattended.alarm("a failure")
    assert not webhook.bodies


def test_a_service_that_refuses_is_a_line_without_its_address(
    webhook: Webhook, capsys: pytest.CaptureFixture[str]
) -> None:
    webhook.statuses = [404]
    assert not unattended.alarm("a failure")
    told = capsys.readouterr().err
    assert "status 404" in told
    assert TOKEN not in told
