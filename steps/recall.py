"""Recall: what the collection looked like when it was accepted last, for telling how it has changed."""

from __future__ import annotations

from typing import Annotated, Any

from zenml import log_metadata, step

from steps import tracking
from steps.accepted import previous_profile
from steps.caching import never
from steps.materializers import FolderArtifact


@step(enable_cache=False, cache_policy=never())
def recall(ingested: FolderArtifact) -> Annotated[dict[str, Any], "previous_profile"]:
    """The profile of the version before, or an empty one; always runs, because runs come and go.

    ``validate`` is cached on the answer: it is the same as long as no run accepts other content. The data
    set is logged to MLflow here, so that a run knows its data also where ``ingest`` came from the cache.

    Args:
        ingested: what ``ingest`` gave.
    """
    tracking.log_dataset(
        str(ingested.facts["name"]),
        str(ingested.facts["data_hash"]),
        str(ingested.facts["source"]),
        context="training",
        facts=ingested.facts["lineage"],
    )
    found = previous_profile(str(ingested.facts["name"]), str(ingested.facts["data_hash"]))
    log_metadata({"compared_with": found["content_hash"] if found else "nothing: the first version"})
    return found or {}
