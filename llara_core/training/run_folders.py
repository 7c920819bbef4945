"""Where the checkpoints of a run lie below their folder, and how they are removed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from llara_core.errors import DataError

# In a run's folder: what the run is, and the mark that its result has been saved.
IDENTITY, FINISHED = "identity.json", "finished"
_RUN = re.compile(r"run-[0-9a-f]{12}")


def run_folder(folder: Path, identity: str) -> Path:
    """The run's own folder.

    Args:
        folder: of the checkpoints of several runs.
        identity: hash of what the run is.
    """
    return folder / f"run-{identity[:12]}"


def discard(folder: Path, *, keep_resumable: bool = False) -> int:
    """Remove the runs below a folder of checkpoints, and the folder if nothing else is in it.

    Args:
        folder: as given to ``checkpoints.Checkpoints``; may be missing.
        keep_resumable: leave the runs that have not ended and have something to go on from.

    Returns:
        How many runs were removed.

    Raises:
        DataError: they cannot be removed.
    """
    runs = [path for path in folder.glob("run-*") if _RUN.fullmatch(path.name) and path.is_dir()]
    chosen = [run for run in runs if not (keep_resumable and _resumable(run))]
    try:
        for run in chosen:
            shutil.rmtree(run)
        if chosen and not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise DataError(
            f"the checkpoints cannot be removed: {error.strerror or error}", file=folder, rule="writable"
        ) from None
    return len(chosen)


def _resumable(run: Path) -> bool:
    return not (run / FINISHED).exists() and any(run.glob("step-*"))
