"""Collections as artifacts."""

from __future__ import annotations

import shutil
from pathlib import Path

from llara_core.data.collection import Collection
from llara_core.files import copy_or_link
from steps.materializers import FolderArtifact
from steps.workspace import new_folder


def hash_of(collection: Collection) -> str:
    """What later steps are cached on: the same content has the same hash wherever it was read from."""
    # What may be broken belongs to the hash: a stricter setting must be judged anew.
    tolerated = f"-{collection.unresolved_share}" if collection.unresolved_share else ""
    return f"{collection.name}-{collection.content_hash}{tolerated}"


def store_collection(collection: Collection) -> FolderArtifact:
    """The collection as an artifact."""
    return describe_collection(collection.save(new_folder("collection")), collection)


def describe_collection(folder: Path, collection: Collection) -> FolderArtifact:
    """A folder that a collection is saved in, as an artifact."""
    facts = {
        "name": collection.name,
        "data_hash": collection.content_hash,
        "documents": collection.corpus.num_rows,
        "report": dict(collection.report),
    }
    return FolderArtifact.of(folder, hash_of(collection), facts)


def same_files(source: Path, name: str) -> Path:
    """A new folder with the files of another, which cost no room where the file system has hard links.

    Args:
        source: the folder of an artifact, whose files nobody changes.
        name: of the new folder.
    """
    target = new_folder(name)
    return Path(shutil.copytree(source, target, copy_function=copy_or_link))


def open_collection(artifact: FolderArtifact) -> Collection:
    """The collection of an artifact, memory-mapped."""
    return Collection.load(artifact.path)
