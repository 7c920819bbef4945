"""Recall: what the collection looked like when it was accepted last, for telling how it has changed."""

from __future__ import annotations

from typing import Annotated, Any

from zenml import log_metadata, step

from steps.accepted import previous_profile
from steps.caching import never
from steps.materializers import FolderArtifact


@step(enable_cache=False, cache_policy=never())
def recall(ingested: FolderArtifact) -> Annotated[dict[str, Any], "previous_profile"]:
    """The profile of the version before, or an empty one; always runs, because runs come and go.

    ``validate`` is cached on the answer: it is the same as long as no run accepts other content.

    Args:
        ingested: what ``ingest`` gave.
    """
    found = previous_profile(str(ingested.facts["name"]), str(ingested.facts["data_hash"]))
    log_metadata({"compared_with": found["content_hash"] if found else "nothing: the first version"})
    return found or {}
