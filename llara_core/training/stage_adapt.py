"""``adapt`` as it is asked for by a request."""

from __future__ import annotations

from pathlib import Path

from llara_core.config import AdaptSettings
from llara_core.training.adapt import adapt
from llara_core.training.engine import OnLog
from llara_core.training.stage_request import StageRequest, open_table


def run(request: StageRequest, on_log: OnLog | None = None) -> Path:
    """Do in this process what the request says; raises what ``adapt.adapt`` raises.

    Args:
        request: with ``rows``, a table with ``text`` and ``next_text``.
        on_log: called with the step and the logged values.
    """
    return adapt(
        request.start,
        open_table(request.data["rows"]),
        AdaptSettings.parse(request.settings, "adapt"),
        request.output,
        request.seed,
        on_log,
        checkpoints=request.checkpoints,
    )
