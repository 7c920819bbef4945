"""Collections as artifacts."""

from __future__ import annotations

from llara_core.data.collection import Collection
from steps.materializers import FolderArtifact
from steps.workspace import new_folder


def store_collection(collection: Collection) -> FolderArtifact:
    """The collection as an artifact; the same content has the same hash wherever it was read from."""
    folder = collection.save(new_folder("collection"))
    facts = {
        "name": collection.name,
        "data_hash": collection.content_hash,
        "documents": collection.corpus.num_rows,
        "report": dict(collection.report),
    }
    # What may be broken belongs to the hash: a stricter setting must be judged anew.
    tolerated = f"-{collection.unresolved_share}" if collection.unresolved_share else ""
    return FolderArtifact.of(folder, f"{collection.name}-{collection.content_hash}{tolerated}", facts)


def open_collection(artifact: FolderArtifact) -> Collection:
    """The collection of an artifact, memory-mapped."""
    return Collection.load(artifact.path)
