"""Merge the shards of a corpus' vectors: the folder that one process would have written, byte by byte."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

from zenml import log_metadata, step

from llara_core.model.bundle import read_bundle
from llara_core.retrieval.vector_shards import merge_shards
from llara_core.retrieval.vector_store import Key, read_manifest
from steps import registry
from steps.caching import policy
from steps.checkpoints import shards_folder
from steps.folder_reader import FolderReader
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.stored.shards import VECTORS, hashes_of, read_plan, rows_of
from steps.workspace import new_folder


@step(cache_policy=policy(__file__), output_materializers=FolderMaterializer)
def merge_vectors(
    plan: FolderReader, shards: list[FolderReader], system: dict[str, str]
) -> Annotated[FolderArtifact, "corpus_vectors"]:
    """The vectors of the whole corpus.

    Args:
        plan: what ``plan_encoding`` gave.
        shards: what every ``encode_shard`` gave, in any order.
        system: what ``identify_system`` gave.

    Raises:
        DataError: a shard is missing, or is not of this plan; names it.
    """
    told = read_plan(plan)
    ordered = sorted(shards, key=lambda shard: int(shard.facts["shard"]))
    folders = [shard.folder(VECTORS) for shard in ordered]
    rows = [rows_of(plan, number) for number in range(told["shards"])]
    fingerprint = read_bundle(registry.folder_of(system["place"])).fingerprint
    key = Key(fingerprint, _dimension(folders), told["dtype"], hashes_of(plan))
    folder = new_folder("vectors")
    merged = merge_shards(key, rows, folders, folder / VECTORS)
    log_metadata({"shards": len(folders), "folder": merged.name})
    shutil.rmtree(shards_folder(plan.content_hash), ignore_errors=True)
    return FolderArtifact.of(folder, facts={"passages": len(key.hashes), "dimension": key.dimension})


def _dimension(folders: list[Path]) -> int:
    return int(read_manifest(folders[0])["dimension"])
