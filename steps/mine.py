"""Mine: hard negatives from BM25 and from the adapted model's own search."""

from __future__ import annotations

from typing import Annotated

from zenml import get_step_context, log_metadata, step

from llara_core.config import Bm25Settings, MineSettings
from llara_core.model.retriever import Retriever
from llara_core.retrieval.mining import mine as mine_negatives
from steps import tracking
from steps.caching import policy
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.stored.collection import open_collection
from steps.stored.negatives import store_negatives
from steps.workspace import vectors_folder


@step(cache_policy=policy(__file__), output_materializers=FolderMaterializer)
def mine(
    collection: FolderArtifact, model: FolderArtifact, settings: MineSettings, bm25: Bm25Settings, seed: int
) -> Annotated[FolderArtifact, "hard_negatives"]:
    """Table of hard negatives: ``query_id, corpus_id, source, rank, score``, with its audit beside it.

    The pipeline uses it once a round: first with the adapted model, then with the model fine-tuned in the
    round before. Its figures go to MLflow as ``<step name>/…``.

    Raises:
        DataError: the split to mine for does not exist.
    """
    mined = mine_negatives(
        open_collection(collection),
        Retriever.from_pretrained(model.path),
        settings,
        bm25,
        seed,
        cache=vectors_folder(),
    )
    log_metadata({"mining": mined.stats})
    stage, audit = get_step_context().step_name, mined.audit
    figures = {
        **mined.stats,
        **{part: audit[part] for part in ("suspected", "overlap", "found")},
        "margin": {key: audit["margins"][key] for key in ("mean", "above_positive")},
    }
    tracking.log_metrics(
        {
            f"{stage}/{name}": value
            for name, value in tracking.flatten(figures)
            if isinstance(value, int | float)
        }
    )
    return store_negatives(mined)
