"""Ingest: a source of any format becomes a collection, as Arrow; every row is accepted or put aside."""

from __future__ import annotations

import logging
import os
from typing import Annotated

from zenml import log_metadata, step

from llara_core.config import CollectionSettings
from llara_core.data.intake import take_in
from llara_core.data.profile import profile
from steps import tracking
from steps.caching import policy
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.quarantine import kept_quarantine
from steps.stored.ingested import store_ingested
from steps.workspace import new_folder

logger = logging.getLogger(__name__)


@step(cache_policy=policy(__file__), output_materializers=FolderMaterializer)
def ingest(source_fingerprint: str, settings: CollectionSettings) -> Annotated[FolderArtifact, "ingested"]:
    """The accepted rows as a collection and, beside them, those put aside, the counts and a profile.

    Args:
        source_fingerprint: of the source; when it changes, the source is read anew.
        settings: which source, and what is done with rows that break a rule.

    Raises:
        DataError: a file is missing, or more rows break a rule than the settings allow; the rows that were
            put aside lie below ``.local/quarantine`` then.
    """
    folder = new_folder("ingested")
    with kept_quarantine(folder, settings.name or "collection"):
        taken = take_in(settings, folder, workers=min(4, os.cpu_count() or 1))
    collection = taken.collection
    counts = {
        "documents": collection.corpus.num_rows,
        "queries": collection.queries.num_rows,
        **{f"judgements_{split}": table.num_rows for split, table in sorted(collection.qrels.items())},
        **{f"rows_{name}": taken.totals[name] for name in ("read", "accepted", "quarantined", "flagged")},
    }
    logger.info("Collection %s: %s", collection.name, ", ".join(f"{n} {name}" for name, n in counts.items()))
    facts = {"name": collection.name, "content_hash": collection.content_hash, **counts}
    log_metadata({"source_fingerprint": source_fingerprint, **facts})
    tracking.log_metrics({f"collection/{name}": value for name, value in counts.items()})
    return store_ingested(folder, profile(collection), settings.source)
