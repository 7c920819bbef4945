"""Segment: documents become pairs of consecutive passages, what EBAR learns to continue."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
from zenml import log_metadata, step

from llara_core.data.passages import adaptation_rows
from steps import tracking
from steps.caching import policy
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.stored.collection import open_collection
from steps.stored.leaks import adaptation_drops
from steps.stored.table import store_table, store_written, table_file

logger = logging.getLogger(__name__)


@step(cache_policy=policy(__file__), output_materializers=FolderMaterializer)
def segment(
    collection: FolderArtifact, leaks: FolderArtifact | None = None
) -> Annotated[FolderArtifact, "adaptation_passages"]:
    """Table of ``text`` and ``next_text``; no query and no judgement is read.

    Rows of adaptation that the source brings along are taken as they are.

    Args:
        collection: what ``accept`` or ``ingest_text`` gave.
        leaks: what ``leaks`` gave; where the settings say drop, documents that hold an evaluation query are
            left out.
    """
    data = open_collection(collection)
    dropped = adaptation_drops(leaks) if leaks is not None else []
    if dropped:
        gone = pc.is_in(data.corpus["_id"], value_set=pa.array(dropped, pa.string()))
        data = replace(data, corpus=data.corpus.filter(pc.invert(gone)))
        logger.info("Left out of adaptation: %d documents that hold an evaluation query", len(dropped))
    if data.rows is not None:
        stored = store_table(data.rows, "adaptation_passages")
    else:
        file = table_file("adaptation_passages")
        stored = store_written(file, adaptation_rows(data, file=file).num_rows)
    count = stored.facts["rows"]
    log_metadata({"adaptation_passages": count, "left_out_as_leaks": len(dropped)})
    tracking.log_metrics({"collection/adaptation_passages": count})
    return stored
