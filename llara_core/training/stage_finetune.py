"""``finetune`` as it is asked for by a request."""

from __future__ import annotations

from pathlib import Path

from llara_core.config import FinetuneSettings
from llara_core.data.collection import Collection
from llara_core.training.engine import OnLog
from llara_core.training.finetune import finetune
from llara_core.training.stage_request import StageRequest, open_table


def run(request: StageRequest, on_log: OnLog | None = None) -> Path:
    """Do in this process what the request says; raises what ``finetune.finetune`` raises.

    Args:
        request: with ``collection``, and ``negatives`` as the miner gives them.
        on_log: called with the step and the logged values.
    """
    return finetune(
        request.start,
        Collection.load(request.data["collection"]),
        open_table(request.data["negatives"]),
        FinetuneSettings.parse(request.settings, "finetune"),
        request.output,
        request.seed,
        on_log,
        checkpoints=request.checkpoints,
    )
