"""Merge what was mined part by part: the table and the audit that one run would have given."""

from __future__ import annotations

from typing import Annotated

from zenml import log_metadata, step

from llara_core.config import MineSettings
from llara_core.model.bundle import read_bundle
from llara_core.retrieval.mining import conclude
from llara_core.retrieval.mining_shards import join_findings
from steps import registry
from steps.caching import policy
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.stored.collection import open_collection
from steps.stored.negatives import store_negatives
from steps.stored.shards import FINDINGS


@step(cache_policy=policy(__file__), output_materializers=FolderMaterializer)
def merge_negatives(
    collection: FolderArtifact,
    parts: list[FolderArtifact],
    system: dict[str, str],
    settings: MineSettings,
    seed: int,
) -> Annotated[FolderArtifact, "hard_negatives"]:
    """Table of hard negatives with its audit, as ``mine`` gives it.

    Args:
        collection: that was mined.
        parts: what every ``mine_shard`` gave, in any order.
        system: what ``identify_system`` gave.
        settings: of mining.
        seed: of mining.
    """
    ordered = sorted(parts, key=lambda part: int(part.facts["part"]))
    findings = join_findings([part.path / FINDINGS for part in ordered])
    fingerprint = read_bundle(registry.folder_of(system["place"])).fingerprint
    mined = conclude(open_collection(collection), fingerprint, settings, seed, findings)
    log_metadata({"mining": mined.stats})
    return store_negatives(mined)
