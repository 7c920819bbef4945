"""Failures as results: what goes wrong with one collection of many must not lose what the others gave.

ZenML skips every step below a failed one, also the one that compares all results. So the steps of an
evaluation that may fail for reasons of one collection write down the failure as their artifact, and the
last step of the run raises what was written down.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Mapping

from zenml import get_step_context, log_metadata
from zenml.client import Client
from zenml.exceptions import RunInterruptedException, RunStoppedException
from zenml.utils.time_utils import utc_now

from llara_core.errors import LlaraError
from steps.materializers import FolderArtifact
from steps.workspace import new_folder

logger = logging.getLogger(__name__)
_FAILURE = "failure"


def recorded(what: str, work: Callable[[], FolderArtifact], facts: Mapping[str, str]) -> FolderArtifact:
    """The artifact that the work gives, or one that says why it gave none.

    A recorded failure is never taken from the cache: the next run tries again.

    Args:
        what: the subject, for the log, e.g. ``collection scifact``.
        work: may raise anything; a run that is stopped or interrupted stays stopped.
        facts: what a reader of the failure needs to place it.
    """
    try:
        return work()
    except (RunStoppedException, RunInterruptedException):
        raise
    except Exception as error:
        if isinstance(error, LlaraError):
            logger.error("%s: %s", what, error)
            message = str(error)
        else:  # a fault of ours or of a library: the log keeps where
            logger.exception("%s failed", what)
            message = f"{type(error).__name__}: {error}"
        log_metadata({_FAILURE: message})
        _never_again()
        return failed(f"{what}: {message}", facts)


def _never_again() -> None:
    """Keep the result of the running step from being taken from the cache."""
    Client().update_step_run(get_step_context().step_run.id, cache_expires_at=utc_now())


def failed(message: str, facts: Mapping[str, str]) -> FolderArtifact:
    """An artifact that says what went wrong; no two have one hash, so nothing is cached on them."""
    folder = new_folder(_FAILURE)
    folder.mkdir(parents=True)
    (folder / "failure.json").write_text(json.dumps({_FAILURE: message}), encoding="utf-8")
    return FolderArtifact.of(folder, uuid.uuid4().hex, {**facts, _FAILURE: message})


def failure_of(artifact: FolderArtifact) -> str | None:
    """What went wrong where the artifact should have been made, or None."""
    message = artifact.facts.get(_FAILURE)
    return None if message is None else str(message)
