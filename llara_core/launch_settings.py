"""Settings of a launch: how many processes train, on how many machines, and how they share the model."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveFloat, PositiveInt

from llara_core.settings import Settings


class LaunchSettings(Settings):
    """The processes of both training stages; their number changes the result by rounding alone."""

    # On each machine. auto: one per visible GPU; 1: none is started, the step itself trains.
    processes: PositiveInt | Literal["auto"] = 1
    nodes: PositiveInt = 1  # machines; above 1 the pipeline's training runs as pods of one job
    # A file like those of configs/accelerate (FSDP, DeepSpeed); None: every process holds the whole model.
    accelerate: str | None = None
    # That a process waits for another to come, to answer, to write a large model; then it ends with an error.
    patience_minutes: PositiveFloat = 30.0
