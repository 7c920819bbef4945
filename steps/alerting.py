"""Telling somebody: through the alerter of the active stack, or else the webhook of the environment.

An alert never fails what it tells about: whatever goes wrong with it is one line in the log.
"""

from __future__ import annotations

import logging

from llara_core.errors import LlaraError
from llara_core.operations import alerts
from llara_core.operations.alerts import Alert

__all__ = ["Alert", "alert"]

logger = logging.getLogger(__name__)
_raised: set[str] = set()  # kinds, in this process
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}


def alert(one: Alert) -> bool:
    """Log an alert, and deliver it.

    The alerter of the active ZenML stack is asked first. Where the stack has none, or it fails, the webhook
    of ``$LLARA_ALERT_WEBHOOK`` is; where there is neither, the log keeps the alert.

    Args:
        one: what to say.

    Returns:
        Whether somebody was told. Never raises for a delivery that failed.
    """
    _raised.add(one.kind)
    logger.log(_LEVELS[one.severity], "alert: %s", one.message().replace("\n", "; "))
    if _by_stack(one):
        return True
    address = alerts.webhook()
    if address is None:
        logger.info(
            "Nobody was told: the stack has no alerter, and $%s is not set (see %s).",
            alerts.WEBHOOK, alerts.RUNBOOK,
        )  # fmt: skip
        return False
    try:
        alerts.post(one, address)
    except LlaraError as error:
        logger.error("The alert above was not delivered: %s", error)
        return False
    return True


def raised(kind: str) -> bool:
    """Whether this process has raised an alarm of a kind."""
    return kind in _raised


def _by_stack(one: Alert) -> bool:
    """Whether the stack's alerter took it; False where there is none, or it failed."""
    try:
        from zenml.client import Client

        alerter = Client().active_stack.alerter
        if alerter is None:
            return False
        if alerter.post(one.message()):
            return True
        logger.error("The stack's alerter %r refused the alert above.", alerter.name)
    except Exception as error:  # of any service behind it; its words may quote an address or a token
        logger.error("The stack's alerter failed with %s.", type(error).__name__)
    return False
