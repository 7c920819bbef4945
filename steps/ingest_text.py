"""Ingest text: files of unlabelled text become a corpus, as Arrow on disk."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from zenml import log_metadata, step

from llara_core.config import CollectionSettings, TextSettings
from llara_core.data.collection import Collection
from llara_core.data.duplicates import deduplicate, find_duplicates
from llara_core.data.intake import take_in
from llara_core.data.lineage import lineage
from llara_core.data.profile import profile
from llara_core.data.quarantine import open_quarantine
from llara_core.data.text_folder import text_source, unlabelled
from llara_core.evaluation.data_page import render_data_page
from steps import tracking
from steps.caching import policy
from steps.data_pages import publish
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.quarantine import kept_quarantine
from steps.stored.collection import describe_collection
from steps.workspace import DATA_REPORT_PAGE, new_folder

logger = logging.getLogger(__name__)


@step(
    cache_policy=policy(__file__, "llara_core/evaluation/templates"), output_materializers=FolderMaterializer
)
def ingest_text(text_fingerprint: str, settings: TextSettings) -> Annotated[FolderArtifact, "text"]:
    """The text as a collection without queries and judgements, and a page about it.

    What cannot be used is put aside; documents that repeat another are left out where the settings say so.

    Args:
        text_fingerprint: of the source; when it changes, the source is read anew.
        settings: which source, and what is done with rows that break a rule.

    Raises:
        DataError: a file is missing, or more rows break a rule than the settings allow.
    """
    told = CollectionSettings(
        source=settings.source, name=settings.name, pycode=settings.pycode, ingest=settings.ingest
    )
    source = None if settings.path is None else text_source(settings.path, settings.name)
    folder = new_folder("text")
    with kept_quarantine(folder, settings.name or "text"):
        taken = take_in(
            told, folder, workers=min(4, os.cpu_count() or 1), source=source,
            change=unlabelled if source is None else None,
        )  # fmt: skip
    text = taken.collection
    logger.info("Text %s: %d documents", text.name, text.corpus.num_rows)
    facts = {"name": text.name, "content_hash": text.content_hash, "documents": text.corpus.num_rows}
    log_metadata({"text_fingerprint": text_fingerprint, **facts, "rows": taken.totals})
    tracking.log_metrics({"text/documents": text.corpus.num_rows})
    tracking.log_dataset(
        text.name,
        text.content_hash,
        settings.source,
        context="adaptation",
        facts=lineage(text),
    )
    return _deduplicated(text, folder, settings, taken.record)


def _deduplicated(
    text: Collection, folder: Path, settings: TextSettings, counts: Mapping[str, Any]
) -> FolderArtifact:
    """The text without the repeats that the settings tell to leave out; its page is published on the way."""
    found = find_duplicates(text.passages, settings.duplicates, text.corpus_ids)
    facts = {
        "profile": profile(text),
        "counts": counts,
        "quarantine": open_quarantine(folder),
        "duplicates": found.report,
    }
    publish(render_data_page(facts), "data_report", "data_report.html", DATA_REPORT_PAGE)
    kept, left_out = deduplicate(text, found)
    log_metadata({"left_out": left_out})
    if kept is not text:
        shutil.rmtree(folder)
        kept.save(folder)
    return describe_collection(folder, kept)
