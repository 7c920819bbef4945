"""Segment: documents become pairs of consecutive passages, what EBAR learns to continue."""

from __future__ import annotations

from typing import Annotated

from zenml import log_metadata, step

from llara_core.data.passages import adaptation_rows
from steps import tracking
from steps.caching import policy
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.stored.collection import open_collection
from steps.stored.table import store_table


@step(cache_policy=policy(__file__), output_materializers=FolderMaterializer)
def segment(collection: FolderArtifact) -> Annotated[FolderArtifact, "adaptation_passages"]:
    """Table of ``text`` and ``next_text``; no query and no judgement is read."""
    passages = adaptation_rows(open_collection(collection))
    log_metadata({"adaptation_passages": passages.num_rows})
    tracking.log_metrics({"collection/adaptation_passages": passages.num_rows})
    return store_table(passages, "adaptation_passages")
