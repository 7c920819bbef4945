"""Everything that the page about a collection shows, in one go; the pipeline gathers it step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llara_core.config import CollectionSettings
from llara_core.data.collection import Collection
from llara_core.data.duplicates import find_duplicates
from llara_core.data.intake import record_of
from llara_core.data.leaks import find_leaks
from llara_core.data.profile import drift, profile
from llara_core.data.quarantine import open_quarantine


def data_facts(
    collection: Collection,
    settings: CollectionSettings,
    folder: Path | None = None,
    before: Collection | None = None,
    *,
    split: str = "test",
    train_split: str = "train",
) -> dict[str, Any]:
    """Facts for ``evaluation.data_page.write_data_page``.

    Args:
        collection: that the page is about.
        settings: what counts as a duplicate and as a leak.
        folder: that it was ingested into, with the rows that were put aside; None where there is none.
        before: the version before, to say what has changed.
        split: that is judged; without it in the collection, nothing can leak.
        train_split: that is trained on.
    """
    now = profile(collection)
    facts: dict[str, Any] = {
        "profile": now,
        "duplicates": find_duplicates(collection.passages, settings.duplicates, collection.corpus_ids).report,
    }
    if folder is not None and (record := record_of(folder)) is not None:
        facts |= {"counts": record, "quarantine": open_quarantine(folder)}
    if split in collection.qrels:
        found = find_leaks(
            collection, split=split, train_split=train_split, adaptation=collection.passages,
            settings=settings.leaks,
        )  # fmt: skip
        facts["leaks"] = found.report
    if before is not None:
        facts["drift"] = drift(profile(before), now)
    return facts
