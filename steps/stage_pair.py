"""Stage: the pair of the chosen model and the corpus of now, made beside the one that serves."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

from zenml import log_metadata, step

from llara_core.indexing_settings import IndexShapeSettings
from llara_core.model.retriever import Retriever
from llara_core.operations.live import LiveStore
from llara_core.operations.live_staging import stage
from llara_core.retrieval.index import IndexSettings
from steps import registry, tracking
from steps.caching import never
from steps.materializers import FolderArtifact
from steps.stored.collection import open_collection
from steps.workspace import vectors_folder

logger = logging.getLogger(__name__)


@step(enable_cache=False, cache_policy=never())
def stage_pair(
    chosen: dict[str, Any], collection: FolderArtifact, shape: IndexShapeSettings
) -> Annotated[dict[str, Any], "staged"]:
    """``generation`` (its name), ``version``, ``how`` it was made and the ``counts`` of documents.

    Never cached: the pair lies in the live store, not in the artifact store. The store itself finds what an
    earlier run made.

    Args:
        chosen: what ``choose_pair`` gave.
        collection: the corpus, validated.
        shape: of a new index.

    Raises:
        LiveError: another run is making a pair.
        ModelError: the version holds no bundle of ours, or a damaged one.
    """
    data = open_collection(collection)
    made = stage(
        LiveStore(Path(chosen["store"])),
        registry.bundle_of(chosen["name"], chosen["version"]),
        chosen["version"],
        data.corpus_ids,
        data.passages,
        IndexSettings(shape.kind, None, shape.shards, shape.dtype),
        Retriever.from_pretrained,
        vectors_folder(),
        collection.path,
    )
    staged = {
        "generation": made.pair.name,
        "version": made.pair.version,
        "documents": made.pair.documents,
        "how": made.how,
        "counts": made.counts,
    }
    log_metadata({"staged": {**staged, "counts": str(made.counts)}})
    tracking.log_metrics({f"index/{name}": count for name, count in made.counts.items()})
    tracking.log_metrics({"index/documents": made.pair.documents})
    counts = ", ".join(f"{count} {name}" for name, count in made.counts.items())
    logger.info("Pair %s: %s%s", made.pair.name, made.how, f" ({counts})" if counts else "")
    return staged
