"""Admit: a collection is read and validated before anything is judged on it."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated, Any

from zenml import log_metadata, step

from llara_core.config import CollectionSettings
from llara_core.data.collection import Collection
from llara_core.data.intake import take_in
from llara_core.data.leaks import find_leaks
from llara_core.data.profile import profile
from llara_core.data.quarantine import open_quarantine
from llara_core.evaluation.data_page import render_data_page
from steps.caching import policy
from steps.data_pages import publish, publish_judgement
from steps.expectations import judge
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.quarantine import kept_quarantine
from steps.recorded import recorded
from steps.stored.collection import describe_collection
from steps.stored.subsets import write_subsets
from steps.workspace import new_folder

logger = logging.getLogger(__name__)


@step(
    cache_policy=policy(
        __file__, "configs/expectations", "steps/data_docs.css", "llara_core/evaluation/templates"
    ),
    output_materializers=FolderMaterializer,
)
def admit(
    source_fingerprint: str, settings: CollectionSettings, split: str
) -> Annotated[FolderArtifact, "collection"]:
    """The collection with its leak-free subsets, or why it cannot be used.

    Its Data Docs and its data report go to MLflow and ``.local/reports``. One step where training has
    several (``ingest``, ``validate``, ``leaks``): a broken collection is an answer here, and not the end of
    the run. Nothing is left out, whatever the settings say: a score on fewer documents is another score.

    Args:
        source_fingerprint: of the source; when it changes, the source is read anew.
        settings: which source, with the name that the collection is judged by.
        split: that is judged.
    """
    name = str(settings.name)

    def work() -> FolderArtifact:
        folder = new_folder("admitted")
        with kept_quarantine(folder, name):
            taken = take_in(settings, folder, workers=min(4, os.cpu_count() or 1))
        collection = taken.collection
        logger.info(
            "Collection %s: %d documents, %d queries",
            name, collection.corpus.num_rows, collection.queries.num_rows,
        )  # fmt: skip
        log_metadata({"source_fingerprint": source_fingerprint, "rows": taken.totals})
        judgement = judge(collection)
        local = name.replace("/", "_")
        publish_judgement(judgement, "validation", f"data_docs/{name}.html", f"data_docs_{local}.html")
        judgement.raise_critical()
        facts = _facts(collection, settings, split, folder) | {"counts": taken.record}
        publish(
            render_data_page(facts), f"data_report_{local}", f"data_report/{name}.html",
            f"data_report_{local}.html",
        )  # fmt: skip
        return describe_collection(folder, collection)

    return recorded(f"collection {name}", work, {"name": name})


def _facts(collection: Collection, settings: CollectionSettings, split: str, folder: Path) -> dict[str, Any]:
    """What the data report shows; the leak-free subsets are written into the folder on the way."""
    facts: dict[str, Any] = {"profile": profile(collection), "quarantine": open_quarantine(folder)}
    if split in collection.qrels:
        found = find_leaks(collection, split=split, settings=settings.leaks)
        write_subsets(found.subsets, folder)
        facts["leaks"] = found.report
    return facts
