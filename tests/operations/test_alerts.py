from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llara_core.errors import ConfigError
from llara_core.operations import alerts
from llara_core.operations.alerts import KINDS, Alert, AlertError
from tests.operations_webhook import TOKEN, Webhook

RUNBOOK = Path(__file__).resolve().parents[2] / alerts.RUNBOOK


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    service = Webhook()
    yield service
    service.close()


def one(**changes: Any) -> Alert:
    values: dict[str, Any] = {
        "kind": "promotion refused",
        "title": "version 4 stays challenger",
        "text": "nDCG@10 0.41 against 0.43",
        "severity": "warning",
        "facts": {"version": 4, "folder": Path("a/b")},
    }
    return Alert(**{**values, **changes})


def test_an_alert_arrives_whole(webhook: Webhook) -> None:
    alerts.post(one(), webhook.address)
    (body,) = webhook.bodies
    assert webhook.paths == [f"/hooks/{TOKEN}"]
    assert (body["kind"], body["severity"]) == ("promotion refused", "warning")
    assert body["facts"] == {"version": 4, "folder": "a/b"}
    for words in ("version 4 stays challenger", "0.41 against 0.43", "docs/runbook.md#promotion-refused"):
        assert words in body["text"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", body["time"])


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_busy_service_is_asked_again(webhook: Webhook, status: int) -> None:
    webhook.statuses = [status, status]
    waited: list[float] = []
    alerts.post(one(), webhook.address, pauses=(1.0, 4.0), sleep=waited.append)
    assert len(webhook.bodies) == 3
    assert waited == [1.0, 4.0]


def test_patience_ends(webhook: Webhook) -> None:
    webhook.statuses = [503] * 9
    with pytest.raises(AlertError, match="status 503"):
        alerts.post(one(), webhook.address, pauses=(1.0, 4.0), sleep=lambda _: None)
    assert len(webhook.bodies) == 3


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_refusal_is_final(webhook: Webhook, status: int) -> None:
    webhook.statuses = [status] * 9
    with pytest.raises(AlertError, match=f"status {status}"):
        alerts.post(one(), webhook.address, sleep=lambda _: None)
    assert len(webhook.bodies) == 1


@pytest.mark.parametrize("status", [301, 307])
def test_a_redirect_is_not_followed(webhook: Webhook, status: int) -> None:
    webhook.statuses = [status] * 9
    with pytest.raises(AlertError, match=f"status {status}"):
        alerts.post(one(), webhook.address, sleep=lambda _: None)
    assert len(webhook.bodies) == 1


def test_a_service_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/{TOKEN}"
        with pytest.raises(AlertError, match="cannot be reached") as raised:
            alerts.post(one(), address, timeout=0.2, pauses=(), sleep=lambda _: None)
    assert TOKEN not in str(raised.value)


@pytest.mark.parametrize(
    "address",
    [
        f"http://127.0.0.1:9/{TOKEN}",  # nobody listens at the discard port
        f"http://name.invalid/{TOKEN}",
        f"https://user:{TOKEN}@127.0.0.1:9/",
        f"http://[::1/{TOKEN}",
        f"http://127.0.0.1:port/{TOKEN}",
        f"ftp://127.0.0.1/{TOKEN}",
        f"file:///{TOKEN}",
        TOKEN,
    ],
)
def test_the_address_stands_in_no_error_and_no_log(address: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises((AlertError, ConfigError)) as raised:
        alerts.post(one(), address, timeout=5, pauses=(), sleep=lambda _: None)
    assert TOKEN not in str(raised.value)
    assert TOKEN not in repr(raised.value.__cause__)
    assert TOKEN not in caplog.text


def test_unknown_kinds_and_severities_are_refused() -> None:
    with pytest.raises(ConfigError, match="alert kind"):
        one(kind="something else")
    with pytest.raises(ConfigError, match="alert severity"):
        one(severity="loud")


def test_long_texts_are_cut() -> None:
    message = one(text="x" * 10_000, facts={"trace": "y" * 10_000}).message()
    assert len(message) < 5000
    assert message.endswith("#promotion-refused")


def test_an_empty_variable_is_no_webhook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(alerts.WEBHOOK, "  ")
    assert alerts.webhook() is None
    monkeypatch.setenv(alerts.WEBHOOK, " https://a.example/x ")
    assert alerts.webhook() == "https://a.example/x"


@pytest.mark.parametrize("kind", KINDS)
def test_the_runbook_has_a_section_for_every_kind(kind: str) -> None:
    text = RUNBOOK.read_text(encoding="utf-8")
    sections = {
        heading.lower().replace(" ", "-"): body
        for heading, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    }
    body = sections[one(kind=kind).runbook.split("#")[1]]
    for part in ("**Means.**", "**Look.**", "**Do.**"):
        assert part in body


def test_credentials_of_addresses_are_left_out() -> None:
    address = f"postgresql://mlflow:{TOKEN}@db.example/x"
    alert = one(
        title=f"no {address}", text=f"cannot reach {address}.", facts={"store": address, "of": [address]}
    )
    told = repr(alert.payload())
    assert TOKEN not in told
    assert (
        told.count("postgresql://***@db.example/x") == 4 + 3
    )  # title, text and facts; and once more in `text`
