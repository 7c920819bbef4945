"""What shards have found, kept on disk and joined, is one run's: table, stats and audit."""

from __future__ import annotations

from pathlib import Path

import pytest

from llara_core.errors import DataError
from llara_core.retrieval import mining
from llara_core.retrieval.mining import conclude, find
from llara_core.retrieval.mining_shards import join_findings, save_findings
from tests.retrieval.test_mining_same_bytes import (
    EVERYTHING,
    BatchDependent,
    arrow_bytes,
    mine,
    random_collection,
)


@pytest.mark.parametrize("parts", [1, 2, 7, 18])
def test_joined_shards_are_the_whole_audit_included(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    monkeypatch.setattr(mining, "_ENCODE_BLOCK", 4)
    collection, encoder = random_collection(1), BatchDependent(48)
    whole = mine(collection, encoder, EVERYTHING, seed=9)
    files = [
        save_findings(
            find(collection, encoder, EVERYTHING, seed=9, shard=(part, parts)),
            tmp_path / f"{part}.safetensors",
        )
        for part in range(parts)
    ]
    joined = conclude(collection, encoder.fingerprint, EVERYTHING, 9, join_findings(files))
    assert arrow_bytes(joined.table) == arrow_bytes(whole.table)
    assert joined.table["query_id"].num_chunks == 1
    assert joined.stats == whole.stats and joined.audit == whole.audit


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    file = tmp_path / "3.safetensors"
    file.write_bytes(b"half a shard")
    with pytest.raises(DataError, match=r"3\.safetensors: .*mine it again"):
        join_findings([file])
