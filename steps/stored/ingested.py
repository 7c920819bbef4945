"""What reading a source gave, as an artifact: the accepted rows, those put aside, the counts, the profile.

One folder, since every step has one output: a saved collection with ``quarantine/`` beside its tables.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llara_core.data.collection import Collection
from llara_core.data.lineage import lineage
from steps.materializers import FolderArtifact
from steps.stored.collection import hash_of

PROFILE, COUNTS, QUARANTINE = "profile.json", "quarantine/counts.json", "quarantine/quarantine.arrow"


def store_ingested(folder: Path, profile: Mapping[str, Any], source: str) -> FolderArtifact:
    """The folder that was read into, as an artifact.

    Args:
        folder: a saved collection with ``quarantine/``.
        profile: numbers by which a later version is compared with this one.
        source: where it was read from, as the settings name it.
    """
    collection = Collection.load(folder)
    (folder / PROFILE).write_text(json.dumps(profile, sort_keys=True), encoding="utf-8")
    facts = {
        "name": collection.name,
        "data_hash": collection.content_hash,
        "documents": collection.corpus.num_rows,
        "report": dict(collection.report),
        "source": source,
        "lineage": lineage(collection),
    }
    # What was put aside belongs to the hash too: the pages that show it must be made anew. What training
    # uses goes by the accepted rows alone (``accept``).
    aside = hashlib.sha256((folder / COUNTS).read_bytes() + (folder / QUARANTINE).read_bytes())
    return FolderArtifact.of(folder, f"{hash_of(collection)}-{aside.hexdigest()}", facts)


def open_counts(artifact: FolderArtifact) -> dict[str, Any]:
    """Rows read, accepted, put aside and flagged, by file and by rule."""
    counts: dict[str, Any] = json.loads((artifact.path / COUNTS).read_text(encoding="utf-8"))
    return counts


def open_profile(artifact: FolderArtifact) -> dict[str, Any]:
    """The profile of the accepted rows."""
    profile: dict[str, Any] = json.loads((artifact.path / PROFILE).read_text(encoding="utf-8"))
    return profile
