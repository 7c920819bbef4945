"""Ingest: a text source becomes a collection, as Arrow on disk."""

from __future__ import annotations

import logging
import os
from typing import Annotated

from zenml import log_metadata, step

from llara_core.config import CollectionSettings
from llara_core.data.formats import load_collection
from steps import tracking
from steps.caching import policy
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.stored.collection import store_collection

logger = logging.getLogger(__name__)


@step(cache_policy=policy(__file__), output_materializers=FolderMaterializer)
def ingest(source_fingerprint: str, settings: CollectionSettings) -> Annotated[FolderArtifact, "collection"]:
    """The collection.

    Args:
        source_fingerprint: of the source; when it changes, the source is read anew.
        settings: which source.

    Raises:
        DataError: a file is missing or a row is malformed; names file, row and rule.
    """
    collection = load_collection(settings, workers=min(4, os.cpu_count() or 1))
    counts = {
        "documents": collection.corpus.num_rows,
        "queries": collection.queries.num_rows,
        **{f"judgements_{split}": table.num_rows for split, table in sorted(collection.qrels.items())},
    }
    logger.info("Collection %s: %s", collection.name, ", ".join(f"{n} {name}" for name, n in counts.items()))
    facts = {"name": collection.name, "content_hash": collection.content_hash, **counts}
    log_metadata({"source_fingerprint": source_fingerprint, **facts})
    tracking.log_metrics({f"collection/{name}": value for name, value in counts.items()})
    tracking.log_dataset(
        collection.name,
        collection.content_hash,
        settings.source,
        collection.corpus.slice(0, 100).select(["_id", "title", "text"]).to_pandas(),
        context="training",
    )
    return store_collection(collection)
