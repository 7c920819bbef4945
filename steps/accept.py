"""Accept: the collection that everything after it uses, when every gate has let it through."""

from __future__ import annotations

import logging
import shutil
from typing import Annotated

from zenml import log_metadata, step

from llara_core.data.collection import FACTS, Collection
from llara_core.data.duplicates import deduplicate
from llara_core.data.leaks import apply
from llara_core.data.lineage import with_findings
from steps import tracking
from steps.caching import policy
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.stored.collection import describe_collection, open_collection, same_files
from steps.stored.duplicates import open_duplicates
from steps.stored.ingested import PROFILE, QUARANTINE
from steps.stored.leaks import open_leaks
from steps.workspace import new_folder

logger = logging.getLogger(__name__)


@step(cache_policy=policy(__file__), output_materializers=FolderMaterializer)
def accept(
    ingested: FolderArtifact, duplicates: FolderArtifact, leaks: FolderArtifact
) -> Annotated[FolderArtifact, "collection"]:
    """What was ingested, without the repeats and leaks that the settings tell to leave out.

    Where nothing is left out the files are the same, not copies. An artifact of this step means that
    validation and the gates have passed: the next run tells drift against it.

    Args:
        ingested: what ``ingest`` gave.
        duplicates: of its documents.
        leaks: of its evaluation into its training.

    Raises:
        DataError: the leak gate says stop.
    """
    found = open_leaks(leaks)
    found.raise_stop()
    before = open_collection(ingested)
    # Leaks first: they name documents as they were ingested.
    repeats = open_duplicates(duplicates)
    after, counts = deduplicate(apply(before, found), repeats)
    counts |= _training_rows(before, after)
    log_metadata({"left_out": counts})
    tracking.log_metrics({f"accepted/{name}": value for name, value in counts.items()})
    told = with_findings(after, duplicates=repeats.report, leaks=found.report)
    if after is before:
        folder = same_files(ingested.path, "collection")
        shutil.rmtree((folder / QUARANTINE).parent, ignore_errors=True)
        (folder / FACTS).unlink()  # a link: writing to it would change the other artifact
        told.seal(folder)
    else:
        logger.info("Left out: %s", ", ".join(f"{value} {name}" for name, value in counts.items() if value))
        folder = told.save(new_folder("collection"))
        shutil.copyfile(ingested.path / PROFILE, folder / PROFILE)
    artifact = describe_collection(folder, told)
    return FolderArtifact(
        artifact.path,
        artifact.files,
        artifact.content_hash,
        {**artifact.facts, "source_hash": str(ingested.facts["data_hash"])},
    )


def _training_rows(before: Collection, after: Collection) -> dict[str, int]:
    """Judgements that are fewer than before, by split."""
    return {
        f"judgements_{split}_left_out": table.num_rows - after.qrels[split].num_rows
        for split, table in before.qrels.items()
        if split in after.qrels
    }
