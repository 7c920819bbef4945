"""Admit: a collection is read and validated before anything is judged on it."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import Annotated

from zenml import log_metadata, step

from llara_core.config import CollectionSettings
from llara_core.data.formats import load_collection
from steps import tracking
from steps.caching import policy
from steps.expectations import judge
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.recorded import recorded
from steps.stored.collection import store_collection
from steps.workspace import publish_page

logger = logging.getLogger(__name__)


@step(
    cache_policy=policy(__file__, "configs/expectations", "steps/data_docs.css"),
    output_materializers=FolderMaterializer,
)
def admit(source_fingerprint: str, settings: CollectionSettings) -> Annotated[FolderArtifact, "collection"]:
    """The collection, or why it cannot be used; its Data Docs go to MLflow and ``.local/reports``.

    One step where training has two (``ingest``, ``validate``): a broken collection is an answer here, and
    not the end of the run.

    Args:
        source_fingerprint: of the source; when it changes, the source is read anew.
        settings: which source, with the name that the collection is judged by.
    """
    name = str(settings.name)

    def work() -> FolderArtifact:
        collection = replace(load_collection(settings, workers=min(4, os.cpu_count() or 1)), name=name)
        logger.info(
            "Collection %s: %d documents, %d queries",
            name, collection.corpus.num_rows, collection.queries.num_rows,
        )  # fmt: skip
        judgement = judge(collection)
        log_metadata({"validation": judgement.summary, "source_fingerprint": source_fingerprint})
        tracking.log_page(judgement.page, f"data_docs/{name}.html")
        publish_page(judgement.page, f"data_docs_{name.replace('/', '_')}.html")
        judgement.raise_critical()
        return store_collection(collection)

    return recorded(f"collection {name}", work, {"name": name})
