"""Plan and parts of a sharded encoding as artifacts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.retrieval.vector_store import Hashes
from steps.folder_reader import FolderReader
from steps.materializers import FolderArtifact
from steps.workspace import new_folder

Rows = NDArray[np.int64]
HASHES, PLAN, VECTORS, FINDINGS = "hashes.npy", "plan.json", "vectors", "findings.safetensors"


def _rows(number: int) -> str:
    return f"rows-{number:05d}.npy"


def store_plan(hashes: Hashes, batches: Sequence[int], plan: Sequence[Rows], **facts: Any) -> FolderArtifact:
    """Which shard encodes which rows. A shard reads its own rows alone; only the merge reads all.

    Args:
        hashes: of all passages.
        batches: rows of each batch of the corpus' file.
        plan: rows of each shard.
        facts: what else the vectors depend on.
    """
    folder = new_folder("plan")
    folder.mkdir(parents=True)
    np.save(folder / HASHES, hashes, allow_pickle=False)
    for number, rows in enumerate(plan):
        np.save(folder / _rows(number), rows, allow_pickle=False)
    values = {"batches": [int(one) for one in batches], "shards": len(plan), **facts}
    (folder / PLAN).write_text(json.dumps(values), encoding="utf-8")
    cuts = json.dumps([[len(rows) for rows in plan], facts], sort_keys=True)
    content = hashlib.sha256(hashes.tobytes() + cuts.encode()).hexdigest()
    remarks = {"passages": len(hashes), "encoded": sum(map(len, plan)), "shards": len(plan)}
    return FolderArtifact.of(folder, content, remarks)


def read_plan(plan: FolderReader) -> dict[str, Any]:
    """``batches``, ``shards`` and the facts of a plan."""
    values: dict[str, Any] = json.loads(plan.file(PLAN).read_text(encoding="utf-8"))
    return values


def rows_of(plan: FolderReader, number: int) -> Rows:
    """The rows of a shard."""
    rows: Rows = np.load(plan.file(_rows(number)), allow_pickle=False)
    return rows


def hashes_of(plan: FolderReader) -> Hashes:
    """Hashes of all passages."""
    hashes: Hashes = np.load(plan.file(HASHES), mmap_mode="r", allow_pickle=False)
    return hashes


def vectors_below(artifact: FolderArtifact) -> Path:
    """The cache folder that ``vectors.stored_vectors`` finds the vectors of an artifact in."""
    return artifact.path / VECTORS
