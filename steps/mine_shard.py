"""Mine for one part of the queries: a pod of its own on Kubernetes, a thread in a local run."""

from __future__ import annotations

from typing import Annotated

from zenml import log_metadata, step
from zenml.config.retry_config import StepRetryConfig

from llara_core.config import Bm25Settings, MineSettings
from llara_core.model.retriever import Retriever
from llara_core.retrieval.mining import find
from llara_core.retrieval.mining_shards import save_findings
from steps import registry
from steps.caching import policy
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.shard_turns import turn
from steps.stored.collection import open_collection, same_files
from steps.stored.shards import FINDINGS, vectors_below
from steps.workspace import new_folder


@step(
    cache_policy=policy(__file__),
    output_materializers=FolderMaterializer,
    retry=StepRetryConfig(max_retries=2, delay=1),  # a lost part is mined again alone
)
def mine_shard(  # noqa: PLR0913, PLR0917 - what mining depends on, and which part of it
    number: int,
    parts: int,
    collection: FolderArtifact,
    vectors: FolderArtifact,
    system: dict[str, str],
    settings: MineSettings,
    bm25: Bm25Settings,
    seed: int,
) -> Annotated[FolderArtifact, "mined_part"]:
    """What was found for this part's queries, to be put together by ``merge_negatives``.

    Raises:
        DataError: the split to mine for does not exist.
    """
    # BM25's index is written beside the vectors, and nobody writes into an artifact.
    cache = same_files(vectors_below(vectors), "mining")
    with turn():
        encoder = Retriever.from_pretrained(registry.folder_of(system["place"]))
        shard = (number, parts)
        found = find(open_collection(collection), encoder, settings, bm25, seed, cache=cache, shard=shard)
    log_metadata({"part": number, "queries": sum(map(len, found.asked)), "negatives": len(found.lines.rows)})
    folder = new_folder("mined")
    save_findings(found, folder / FINDINGS)
    return FolderArtifact.of(folder, facts={"part": number})
