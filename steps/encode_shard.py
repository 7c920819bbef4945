"""Encode one shard of a corpus: a pod of its own on Kubernetes, a thread in a local run."""

from __future__ import annotations

import shutil
from typing import Annotated

from zenml import log_metadata, step
from zenml.config.retry_config import StepRetryConfig

from llara_core.data.corpus_range import open_corpus, passages_at
from llara_core.model.retriever import Retriever
from llara_core.retrieval.vector_shards import encode_shard as encode
from steps import registry
from steps.caching import policy
from steps.checkpoints import shards_folder
from steps.folder_reader import FolderReader
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.shard_turns import turn
from steps.stored.shards import VECTORS, read_plan, rows_of
from steps.workspace import new_folder


@step(
    cache_policy=policy(__file__),
    output_materializers=FolderMaterializer,
    retry=StepRetryConfig(max_retries=2, delay=1),  # a lost shard is done again alone
)
def encode_shard(
    number: int, plan: FolderReader, collection: FolderReader, system: dict[str, str]
) -> Annotated[FolderArtifact, "vector_shard"]:
    """The vectors of a shard's rows; of the corpus, only the batches that hold them are read.

    Run again, it goes on at the block where it was, if ``$LLARA_CHECKPOINTS`` outlives the pod.

    Args:
        number: of the shard.
        plan: what ``plan_encoding`` gave.
        collection: what was planned for.
        system: what ``identify_system`` gave.

    Raises:
        DataError: the corpus is not the one that was planned for.
        ModelError: the model gives vectors that are not finite.
    """
    told, rows = read_plan(plan), rows_of(plan, number)
    with collection.open("corpus.arrow") as source:
        texts = passages_at(open_corpus(source), told["batches"], rows)
        with turn():
            encoder = Retriever.from_pretrained(registry.folder_of(system["place"]))
            cache = shards_folder(plan.content_hash) / str(number)
            made = encode(encoder, texts, cache, dtype=told["dtype"])
    log_metadata({"shard": number, **made.facts})
    folder = new_folder("shard")
    # Copied, not moved: when storing the artifact fails, the step is tried again and finds what it encoded.
    shutil.copytree(made.folder or cache, folder / VECTORS)
    return FolderArtifact.of(folder, facts={"shard": number, "passages": len(rows)})
