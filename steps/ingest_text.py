"""Ingest text: files of unlabelled text become a corpus, as Arrow on disk."""

from __future__ import annotations

import logging
import os
from typing import Annotated

from zenml import log_metadata, step

from llara_core.config import TextSettings
from llara_core.data.text_folder import load_text
from steps import tracking
from steps.caching import policy
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.stored.collection import store_collection

logger = logging.getLogger(__name__)


@step(cache_policy=policy(__file__), output_materializers=FolderMaterializer)
def ingest_text(text_fingerprint: str, settings: TextSettings) -> Annotated[FolderArtifact, "text"]:
    """The text as a collection without queries and judgements.

    Args:
        text_fingerprint: of the source; when it changes, the source is read anew.
        settings: which source.

    Raises:
        DataError: a file is missing or a row is malformed; names file, row and rule.
    """
    text = load_text(settings, workers=min(4, os.cpu_count() or 1))
    logger.info("Text %s: %d documents", text.name, text.corpus.num_rows)
    facts = {"name": text.name, "content_hash": text.content_hash, "documents": text.corpus.num_rows}
    log_metadata({"text_fingerprint": text_fingerprint, **facts})
    tracking.log_metrics({"text/documents": text.corpus.num_rows})
    tracking.log_dataset(
        text.name,
        text.content_hash,
        settings.source,
        text.corpus.slice(0, 100).select(["_id", "title", "text"]).to_pandas(),
        context="adaptation",
    )
    return store_collection(text)
