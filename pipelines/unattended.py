"""A run that fails before its first step has no hook that could tell anybody: the launcher does.

Only where nobody looks on (no terminal) and a webhook is set, so that a typing error at the keyboard wakes
nobody, and a schedule whose data folder is gone does. Source: issue 6, point 6.
"""

from __future__ import annotations

import sys

from llara_core.errors import LlaraError
from llara_core.operations import alerts, logs


def alarm(message: str, kind: alerts.Kind = "run failed") -> bool:
    """Raise an alarm through the webhook, unless the hook of a step has done it or somebody looks on.

    Args:
        message: what the launcher says.
        kind: of the alarm; a retraining says ``tick failed``.

    Returns:
        Whether somebody was told; a delivery that fails is a line in the log.
    """
    alerting = sys.modules.get("steps.alerting")  # not imported, nothing was raised
    address = alerts.webhook()
    if address is None or sys.stderr.isatty() or (alerting is not None and alerting.raised(kind)):
        return False
    command = " ".join(sys.argv[1:])
    try:
        alert = alerts.Alert(kind, f"pipelines {command}", message, "critical")
        alerts.post(alert, address)
    except LlaraError as error:
        logs.say(f"llara: the alarm was not delivered: {error}", "ERROR")
        return False
    return True
