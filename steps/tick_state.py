"""What the steps of a tick share: the history, and the lock, which this process holds until the last ends.

On an orchestrator that runs each step in a process of its own, the lock is let go of between them; the last
step, which acts, takes it again and looks whether the decision still stands.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from urllib.parse import quote

from llara_core.operations.freshness_history import file_of
from llara_core.operations.lock import Held, Holder, take

_held: dict[str, Held] = {}  # by registered model


def local_state() -> Path:
    """``$LLARA_LOCAL``, or a folder of this machine where no state is kept (in a container)."""
    local = os.environ.get("LLARA_LOCAL")
    return Path(local) if local else Path(tempfile.gettempdir()) / "llara"


def history(model: str) -> Path:
    """The history of a model's ticks."""
    return file_of(local_state(), model)


def hold(model: str, run: str) -> Held | Holder:
    """Take the lock of a model's retraining, or tell who has it; this process may hold it already.

    Args:
        model: registered name.
        run: name of the pipeline run that asks.

    Raises:
        LockError: the file system has no locks.
    """
    held = _held.get(model)
    if held is not None:
        return held
    found = take(local_state() / "locks" / f"retraining-{quote(model, safe=' ')}.lock", run)
    if isinstance(found, Held):
        _held[model] = found
    return found


def release(model: str) -> None:
    """Let go of the lock, if this process holds it."""
    held = _held.pop(model, None)
    if held is not None:
        held.release()
