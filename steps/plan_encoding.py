"""Plan the encoding of a corpus in shards: which rows each of them encodes."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from zenml import log_metadata, step

from llara_core.data.corpus_range import batches_of, open_corpus
from llara_core.retrieval.hashes import passage_hashes
from llara_core.retrieval.vector_shards import plan_shards
from steps.caching import policy
from steps.folder_reader import FolderReader
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.stored.shards import store_plan


@step(cache_policy=policy(__file__), output_materializers=FolderMaterializer)
def plan_encoding(
    collection: FolderReader, system: dict[str, str], shards: int, dtype: str
) -> Annotated[FolderArtifact, "encoding_plan"]:
    """Hashes of all passages, and the rows of each shard; the corpus is read once, batch by batch.

    Args:
        collection: what ``ingest`` gave.
        system: what ``identify_system`` gave; shards of two models must not be put together.
        shards: at most how many.
        dtype: of the vectors, ``float32`` or ``float16``; not a ``Literal``, which ZenML takes for no type of
            an artifact, as which a dynamic pipeline hands on whatever a step is told.

    Raises:
        DataError: the corpus has no passage.
    """
    hashes, batches = [np.zeros((0, 16), np.uint8)], []
    with collection.open("corpus.arrow") as source:
        for rows, passages in batches_of(open_corpus(source)):
            hashes.append(passage_hashes(passages))
            batches.append(rows)
    every = np.concatenate(hashes)
    plan = plan_shards(every, shards)
    log_metadata({"rows_of_shards": [len(rows) for rows in plan]})
    return store_plan(every, batches, plan, fingerprint=system["fingerprint"], dtype=dtype)
