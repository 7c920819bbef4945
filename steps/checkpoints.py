"""Where a training step keeps its checkpoints, so that it goes on when it is run again.

Beside ``workspace`` rather than in it: what a step imports decides when its cached result is stale.
"""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

from llara_core.errors import DataError
from llara_core.training.run_folders import discard

logger = logging.getLogger(__name__)


def checkpoints_folder(step: str) -> Path:
    """Where a training step keeps its checkpoints, the same when it is run again.

    ``$LLARA_CHECKPOINTS`` (in a container: a volume that outlives it), else ``$LLARA_LOCAL/checkpoints``,
    else the system's temporary folder.
    """
    return _checkpoints() / step


def discard_checkpoints(but: str | None = None) -> None:
    """Remove the checkpoints of steps that have ended: called by the steps that come later.

    Not by the step itself: ZenML stores its result only after it has returned, and tries again if it cannot.

    Args:
        but: the step that calls.
    """
    for folder in _checkpoints().glob("*"):
        if folder.name != but:
            try:
                discard(folder, keep_resumable=True)
            except DataError as error:  # no reason to fail another step
                logger.warning("%s", error)


def shards_folder(plan: str) -> Path:
    """Where the shards of a plan keep what they have encoded, so that one that is lost goes on.

    Args:
        plan: its hash; shards of two corpora must not meet.
    """
    return _checkpoints() / "shards" / plan[:20]


def _checkpoints() -> Path:
    chosen, local = os.environ.get("LLARA_CHECKPOINTS"), os.environ.get("LLARA_LOCAL")
    if chosen:
        return Path(chosen)
    return Path(local) / "checkpoints" if local else Path(tempfile.gettempdir()) / "llara-checkpoints"
