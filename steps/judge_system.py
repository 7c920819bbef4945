"""Judge a system: one model or BM25 on one collection."""

from __future__ import annotations

import logging
from typing import Annotated, Any, Literal

from zenml import log_metadata, step

from llara_core.config import Bm25Settings
from llara_core.data.collection import Collection
from llara_core.evaluation.beir import Bm25System, DenseSystem, System, beir_metrics, evaluate_system
from llara_core.evaluation.beir_sets import recognise
from llara_core.evaluation_settings import BM25
from llara_core.model.retriever import Retriever
from steps import registry
from steps.caching import policy
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.recorded import failed, failure_of, recorded
from steps.stored.collection import open_collection
from steps.stored.result import store_result
from steps.workspace import vectors_folder

logger = logging.getLogger(__name__)


@step(cache_policy=policy(__file__), output_materializers=FolderMaterializer)
def judge_system(
    collection: FolderArtifact,
    system: dict[str, str],
    split: str,
    depth: int,
    protocol: dict[str, Any],
    vectors: Literal["float32", "float16"] = "float32",
    bm25: Bm25Settings | None = None,
) -> Annotated[FolderArtifact, "result"]:
    """The system's scores per query, its TREC run and its result in MTEB's shape; or why there is none.

    Vectors of the corpus and BM25's index come from the folder that mining and the training pipeline's
    evaluation share, so what one of them has encoded is not encoded again.

    Args:
        collection: what ``admit`` gave.
        system: what ``identify_system`` gave.
        split: that is judged.
        depth: results per query.
        protocol: of the public set that the collection was asked for as, see ``evaluate_system``.
        vectors: how the passages' vectors are kept.
        bm25: weights and terms of the lexical baseline; None for every other system.
    """
    facts = {"collection": str(collection.facts["name"]), "system": system["name"]}
    if (failure := failure_of(collection)) is not None:
        return failed(failure, facts)

    def work() -> FolderArtifact:
        data = open_collection(collection)
        data.split_queries(split)  # a missing split should fail before the corpus is encoded
        known = recognise(data, split)
        public = {**known.protocol, "public": known.name} if known is not None else {"public": ""}
        result = evaluate_system(
            data,
            split,
            _open(system, data, vectors, bm25),
            depth,
            metrics=beir_metrics(depth),
            protocol={**public, **protocol, "data": data.content_hash},
        )
        logger.info("%s on %s: nDCG@10 %.4f", result.name, data.name, result.means["ndcg_at_10"])
        log_metadata({"scores": result.means})
        return store_result(result)

    return recorded(f"{facts['system']} on {facts['collection']}", work, facts)


def _open(
    system: dict[str, str],
    data: Collection,
    vectors: Literal["float32", "float16"],
    bm25: Bm25Settings | None,
) -> System:
    """The system over a collection, its vectors from the cache or encoded now."""
    name, place = system["name"], system["place"]
    if place == BM25:
        return Bm25System(data, bm25, name, vectors_folder())
    encoder = Retriever.from_pretrained(registry.folder_of(place))
    return DenseSystem(name, encoder, data, vectors_folder(), dtype=vectors)
