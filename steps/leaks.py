"""Leaks: what training shows of the evaluation, found and written down; nothing is left out here."""

from __future__ import annotations

from typing import Annotated

from zenml import log_metadata, step

from llara_core.config import LeakSettings
from llara_core.data.leaks import find_leaks
from steps import tracking
from steps.caching import policy
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.stored.collection import open_collection
from steps.stored.leaks import store_leaks


@step(cache_policy=policy(__file__), output_materializers=FolderMaterializer)
def leaks(
    ingested: FolderArtifact, settings: LeakSettings, split: str, train_split: str
) -> Annotated[FolderArtifact, "leaks"]:
    """Leaks by kind, the leak-free subsets of the evaluation, and what to leave out of training.

    ``accept`` acts on it; ``evaluate`` shows the scores on the subsets beside the official ones. The text
    that adaptation reads is the corpus itself.

    Args:
        ingested: what ``ingest`` gave.
        settings: what counts as a leak, and what to do about it.
        split: that is judged.
        train_split: that is trained on.

    Raises:
        DataError: the split does not exist or judges no known query.
    """
    collection = open_collection(ingested)
    found = find_leaks(
        collection, split=split, train_split=train_split, adaptation=collection.passages, settings=settings
    )
    report = found.report
    counts = {name: report[name] for name in ("evaluation_queries", "leaking_queries")}
    counts |= {f"queries_{name}": int(marks.sum()) for name, marks in found.subsets.items()}
    log_metadata({"leaks": counts})
    tracking.log_metrics({f"leaks/{name}": value for name, value in counts.items()})
    return store_leaks(found, collection.corpus_ids)
