"""All judged: the last step of an evaluation fails where anything before it was written down as failed."""

from __future__ import annotations

from typing import Annotated

from zenml import step

from llara_core.errors import LlaraError
from steps.caching import never
from steps.materializers import FolderArtifact
from steps.stored.side_by_side import open_summary


class IncompleteEvaluationError(LlaraError):
    """Some collection or system could not be judged; the results of the others stand."""


@step(enable_cache=False, cache_policy=never())
def all_judged(comparison: FolderArtifact) -> Annotated[bool, "complete"]:
    """Make the run a failed one, after everything else of it is stored and published.

    Args:
        comparison: what ``side_by_side`` gave.

    Raises:
        IncompleteEvaluationError: something failed; says what, and that the rest was judged.
    """
    summary = open_summary(comparison)
    if failures := summary["failures"]:
        judged = ", ".join(summary["collections"]) or "none"
        raise IncompleteEvaluationError(
            f"{len(failures)} of this evaluation failed: {'; '.join(failures)} (judged: {judged}; the next "
            "run tries again what failed, and takes the rest from the cache)"
        )
    return True
