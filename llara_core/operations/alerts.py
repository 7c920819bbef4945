"""Alerts: what somebody should know who looks at no log, as text and through a webhook.

An alert is small on purpose: one line that says what happened, a few that say what was found, and the page of
``docs/runbook.md`` that says what to do. It carries no secret and no text of the corpus.

The webhook's address is a secret (whoever has it can post): it comes from ``$LLARA_ALERT_WEBHOOK`` alone, and
neither it nor what a server answers to it ever stands in a log or an error. Source: issue 6, point 6.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.client import HTTPException, HTTPMessage
from typing import IO, Any, Literal, get_args

from llara_core.errors import ConfigError, LlaraError

logger = logging.getLogger(__name__)

Severity = Literal["info", "warning", "critical"]
Kind = Literal[
    "run failed", "promotion refused", "promotion skipped", "tick failed", "canary refused", "rollback",
    "disk low", "schedule missed",
]  # fmt: skip
KINDS: tuple[str, ...] = get_args(Kind)
SEVERITIES: tuple[str, ...] = get_args(Severity)
WEBHOOK = "LLARA_ALERT_WEBHOOK"  # environment variable with the address
RUNBOOK = "docs/runbook.md"
TIMEOUT = 10.0  # seconds that one try may take
PAUSES = (1.0, 4.0)  # seconds before the second and the third try
_TEXT_LIMIT = 2000  # characters; chat services cut or refuse longer messages
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+(?=@)")  # of an address: errors of libraries quote them
_SERVER_FAULTS = range(500, 600)
_TRY_AGAIN = {408, 425, 429}  # statuses that ask for patience; other 4xx will not change by asking again


class AlertError(LlaraError):
    """An alert could not be delivered; the message names no address."""


@dataclass(frozen=True)
class Alert:
    """One message to whoever keeps the system.

    Args:
        kind: one of ``KINDS``; the runbook has a section for each.
        title: one line: what happened to what.
        text: a few lines: the reason, with its numbers.
        severity: ``info``: nothing to do now; ``warning``: look at it today; ``critical``: now.
        facts: small values to go by: run, step, versions, the next command.

    Raises:
        ConfigError: kind or severity is unknown.
    """

    kind: Kind
    title: str
    text: str = ""
    severity: Severity = "warning"
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what the runbook would have no section for."""
        if self.kind not in KINDS:
            raise ConfigError(f"alert kind: got {self.kind!r}; known: {', '.join(KINDS)}")
        if self.severity not in SEVERITIES:
            raise ConfigError(f"alert severity: got {self.severity!r}; known: {', '.join(SEVERITIES)}")

    @property
    def runbook(self) -> str:
        """Where to read what to do: the section of the runbook for this kind."""
        return f"{RUNBOOK}#{self.kind.replace(' ', '-')}"

    def message(self) -> str:
        """Plain text for a chat: title, text, facts, runbook."""
        lines = [f"[{self.severity}] {self.kind}: {_cut(self.title)}"]
        if self.text:
            lines.append(_cut(self.text))
        lines += [f"{name}: {_cut(str(value))}" for name, value in self.facts.items()]
        return "\n".join([*lines, f"What to do: {self.runbook}"])

    def payload(self) -> dict[str, Any]:
        """What is posted as JSON; ``text`` is the field that chat services show."""
        return {
            "text": self.message(),
            "kind": self.kind,
            "severity": self.severity,
            "title": _cut(self.title),
            "facts": {name: _plain(value) for name, value in self.facts.items()},
            "runbook": self.runbook,
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }


def webhook() -> str | None:
    """The address to post to, from ``$LLARA_ALERT_WEBHOOK``; None when it is not set."""
    return os.environ.get(WEBHOOK, "").strip() or None


def post(
    alert: Alert,
    address: str,
    *,
    timeout: float = TIMEOUT,
    pauses: tuple[float, ...] = PAUSES,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Post an alert to a webhook as JSON, trying again when the service is away or busy.

    Args:
        alert: what to say.
        address: ``https://…`` or ``http://…``; a secret. Redirects are not followed: they would carry the
            message to somebody else.
        timeout: seconds that one try may take.
        pauses: seconds before each further try.
        sleep: waits between tries; tests give another.

    Raises:
        ConfigError: the address is no web address.
        AlertError: every try failed, or the service refused the message; the address is not named.
    """
    if not _is_web(address):
        raise ConfigError(f"${WEBHOOK}: expected an address that begins with https:// or http://")
    body = json.dumps(alert.payload(), ensure_ascii=False, default=str).encode()
    reason = ""
    for pause in (0.0, *pauses):
        if pause:
            sleep(pause)
        reason, final = _one_try(address, body, timeout)
        if not reason:
            return
        if final:
            break
    raise AlertError(f"the webhook of ${WEBHOOK} did not take the alert: {reason}")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        return None


def _one_try(address: str, body: bytes, timeout: float) -> tuple[str, bool]:
    """Why it failed (empty: it did not), and whether another try would be idle.

    Exceptions of urllib can quote the address, so only their kind is passed on.
    """
    request = urllib.request.Request(  # noqa: S310 - the scheme was checked
        address, data=body, headers={"Content-Type": "application/json"}, method="POST"
    )
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(request, timeout=timeout) as answer:
            answer.read(1)
    except urllib.error.HTTPError as error:
        error.close()
        final = error.code not in _TRY_AGAIN and error.code not in _SERVER_FAULTS
        return f"it answered with status {error.code}", final
    except urllib.error.URLError as error:
        kind = type(error.reason).__name__ if isinstance(error.reason, BaseException) else "no connection"
        return f"it cannot be reached ({kind})", False
    except (OSError, HTTPException, ValueError) as error:
        return f"it cannot be reached ({type(error).__name__})", isinstance(error, ValueError)
    return "", False


def _is_web(address: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a broken port or IPv6 address; its words would quote the address
        return False


def _cut(text: str) -> str:
    """The text without credentials, and not too long."""
    text = _CREDENTIALS.sub("***", text)
    return text if len(text) <= _TEXT_LIMIT else text[: _TEXT_LIMIT - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | bool | None) else _cut(str(value))
