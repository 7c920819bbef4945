"""Duplicates: documents that say the same, found and written down; nothing is left out here."""

from __future__ import annotations

from typing import Annotated

from zenml import log_metadata, step

from llara_core.config import DuplicateSettings
from llara_core.data.duplicates import find_duplicates
from steps import tracking
from steps.caching import policy
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.stored.collection import open_collection
from steps.stored.duplicates import store_duplicates


@step(cache_policy=policy(__file__), output_materializers=FolderMaterializer)
def duplicates(
    ingested: FolderArtifact, settings: DuplicateSettings
) -> Annotated[FolderArtifact, "duplicates"]:
    """Clusters of documents, which one stands for each, and a report; ``accept`` acts on it.

    Args:
        ingested: what ``ingest`` gave.
        settings: what counts as the same, and which documents shall stay.
    """
    collection = open_collection(ingested)
    found = find_duplicates(collection.passages, settings, collection.corpus_ids)
    counts = {name: found.report[name] for name in ("clusters", "repeats", "exact_repeats")}
    log_metadata({"duplicates": counts})
    tracking.log_metrics({f"duplicates/{name}": value for name, value in counts.items()})
    return store_duplicates(found)
