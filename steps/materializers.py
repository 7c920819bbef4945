"""Folders as artifacts: stored uncompressed, and used in place where the artifact store is local.

ZenML packs a ``Path`` into a tar file and unpacks it for every reader, and pickles what it does not
know. A ``FolderArtifact`` is written once (moved into a local store, streamed into a remote one) and
memory-mapped by its readers. ``manifest.json`` is written last, so a folder cut off half-way is
never taken for a whole one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from zenml.enums import ArtifactType
from zenml.materializers.base_materializer import BaseMaterializer

from llara_core.errors import DataError

MANIFEST = "manifest.json"
_CONTENT = "content"  # the files lie below this name, so that no file of theirs can meet the manifest
_BLOCK = 1 << 20  # bytes copied at a time


@dataclass(frozen=True)
class FolderArtifact:
    """A finished folder, with the hash of its content.

    Args:
        path: the folder on this machine.
        files: name relative to the folder (with ``/``) to its SHA-256 and size in bytes.
        content_hash: what the cache of later steps goes by.
        facts: small JSON-able remarks, shown as metadata of the artifact.
    """

    path: Path
    files: Mapping[str, Mapping[str, Any]]
    content_hash: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, path: Path, content_hash: str | None = None, facts: Mapping[str, Any] | None = None
    ) -> FolderArtifact:
        """Describe a finished folder.

        Args:
            path: the folder; it belongs to the artifact from now on and may be moved.
            content_hash: hash of the meaning, where the same content may have different bytes;
                by default the hash over names and bytes of the files.
            facts: small JSON-able remarks.

        Raises:
            DataError: the folder is missing or empty.
        """
        names = sorted(_names(path))
        if not names:
            raise DataError("the folder of an artifact is missing or empty", file=path)
        files = {
            name: {"sha256": _sha256(path / name), "bytes": (path / name).stat().st_size} for name in names
        }
        by_bytes = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
        return cls(path, files, content_hash or by_bytes, dict(facts or {}))


class FolderMaterializer(BaseMaterializer):
    """Stores a ``FolderArtifact`` file by file, the manifest last."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (FolderArtifact,)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA

    def save(self, data: FolderArtifact) -> None:
        """Move (local store) or stream (remote store) the folder to its place."""
        for name in data.files:
            target = f"{self.uri}/{_CONTENT}/{name}"
            self.artifact_store.makedirs(target.rsplit("/", 1)[0])
            if self._is_local:
                shutil.move(data.path / name, target)
            else:
                with (data.path / name).open("rb") as source, self.artifact_store.open(target, "wb") as sink:
                    shutil.copyfileobj(source, sink, _BLOCK)
        manifest = {"content_hash": data.content_hash, "facts": dict(data.facts), "files": dict(data.files)}
        with self.artifact_store.open(f"{self.uri}/{MANIFEST}", "w") as sink:
            sink.write(json.dumps(manifest, indent=1, sort_keys=True))
        if self._is_local:
            shutil.rmtree(data.path, ignore_errors=True)  # only empty folders are left in it

    def load(self, data_type: type[Any]) -> FolderArtifact:
        """Open the folder: in place in a local store, otherwise from a verified download.

        Raises:
            DataError: the folder is incomplete or a file is not what was stored.
        """
        manifest_uri = f"{self.uri}/{MANIFEST}"
        if not self.artifact_store.exists(manifest_uri):
            raise DataError(
                "the stored folder has no manifest: writing it was cut off; run again with --no-cache",
                file=Path(self.uri),
            )
        with self.artifact_store.open(manifest_uri, "r") as source:
            manifest = json.loads(source.read())
        path = Path(self.uri) / _CONTENT if self._is_local else self._download(manifest["files"])
        _verify(path, manifest["files"], hashes=not self._is_local)
        return FolderArtifact(path, manifest["files"], manifest["content_hash"], manifest["facts"])

    def compute_content_hash(self, data: FolderArtifact) -> str:
        """The artifact's own hash, so that a re-made identical folder still hits the cache."""
        return data.content_hash

    def extract_metadata(self, data: FolderArtifact) -> dict[str, Any]:
        """Hash, number of files and the facts, for the dashboard."""
        shown = {
            key: value
            for key, value in data.facts.items()
            if isinstance(value, str | int | float | bool | dict)
        }
        return {"content_hash": data.content_hash, "files": len(data.files), **shown}

    @property
    def _is_local(self) -> bool:
        return bool(self.artifact_store.config.is_local)

    def _download(self, files: Mapping[str, Any]) -> Path:
        with self.get_temporary_directory(delete_at_exit=False) as folder:
            for name in files:
                target = Path(folder) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                uri = f"{self.uri}/{_CONTENT}/{name}"
                with self.artifact_store.open(uri, "rb") as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink, _BLOCK)
            return Path(folder)


def _names(path: Path) -> Iterator[str]:
    for folder, _, files in os.walk(path):
        for name in files:
            yield (Path(folder) / name).relative_to(path).as_posix()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while block := source.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _verify(path: Path, files: Mapping[str, Mapping[str, Any]], hashes: bool) -> None:
    # In place, sizes are enough: reading every byte again would cost what the move has saved.
    for name, expected in files.items():
        file = path / name
        size = file.stat().st_size if file.is_file() else -1
        if size != expected["bytes"] or (hashes and _sha256(file) != expected["sha256"]):
            found = "is missing" if size < 0 else f"has {size} bytes"
            raise DataError(
                f"stored file {found}, expected {expected['bytes']} bytes with SHA-256 "
                f"{expected['sha256'][:12]}…; run again with --no-cache",
                file=file,
            )
