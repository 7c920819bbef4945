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
from typing import IO, Any, ClassVar

from zenml.enums import ArtifactType
from zenml.materializers.base_materializer import BaseMaterializer

from llara_core.errors import DataError
from llara_core.files import sha256 as _sha256
from steps.folder_reader import FolderReader

MANIFEST = "manifest.json"
_CONTENT = "content"  # the files lie below this name, so that no file of theirs can meet the manifest
_BLOCK = 1 << 20  # bytes copied at a time: what a folder of any size takes of memory


@dataclass(frozen=True)
class FolderArtifact:
    """A finished folder, with the hash of its content.

    Args:
        path: the folder on this machine.
        files: name relative to the folder (with ``/``) to its size in bytes and, as soon as somebody has
            read the file, its SHA-256.
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
                by default the hash over names and bytes of the files. Where it is given, no file is
                read here: they are hashed on their way into the store.
            facts: small JSON-able remarks.

        Raises:
            DataError: the folder is missing or empty.
        """
        names = sorted(_names(path))
        if not names:
            raise DataError("the folder of an artifact is missing or empty", file=path)
        files: dict[str, dict[str, Any]] = {name: {"bytes": (path / name).stat().st_size} for name in names}
        if content_hash is None:
            files = {name: {"sha256": _sha256(path / name), **one} for name, one in files.items()}
            content_hash = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
        return cls(path, files, content_hash, dict(facts or {}))


class FolderMaterializer(BaseMaterializer):
    """Stores a ``FolderArtifact`` file by file, the manifest last."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (FolderArtifact, FolderReader)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA

    def save(self, data: FolderArtifact) -> None:
        """Move (local store) or stream (remote store) the folder to its place.

        Moving renames: no byte is written twice. Streaming hashes what it sends, so that every byte is
        read once; a hash that the artifact had already must be the same.

        Raises:
            DataError: a file changed while it was stored.
        """
        files = {name: self._store(data, name) for name in data.files}
        manifest = {"content_hash": data.content_hash, "facts": dict(data.facts), "files": files}
        with self.artifact_store.open(f"{self.uri}/{MANIFEST}", "w") as sink:
            sink.write(json.dumps(manifest, indent=1, sort_keys=True))
        if self._is_local:
            shutil.rmtree(data.path, ignore_errors=True)  # only empty folders are left in it

    def load(self, data_type: type[Any]) -> FolderArtifact | FolderReader:
        """Open the folder: in place in a local store, otherwise from a verified download, or to read parts.

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
        if isinstance(data_type, type) and issubclass(data_type, FolderReader):
            return self._reader(manifest)
        path = self._in_place(manifest["files"]) if self._is_local else self._download(manifest["files"])
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

    def _store(self, data: FolderArtifact, name: str) -> dict[str, Any]:
        """Bring one file to its place; returns its entry of the manifest."""
        place, target, known = data.path / name, f"{self.uri}/{_CONTENT}/{name}", dict(data.files[name])
        self.artifact_store.makedirs(target.rsplit("/", 1)[0])
        if self._is_local:
            known.setdefault("sha256", _sha256(place))
            shutil.move(place, target)
            return known
        with place.open("rb") as source, self.artifact_store.open(target, "wb") as sink:
            sha256, size = _copied(source, sink)
        if size != known["bytes"] or known.setdefault("sha256", sha256) != sha256:
            raise DataError("the file changed while it was stored; run again", file=place)
        return known

    def _in_place(self, files: Mapping[str, Mapping[str, Any]]) -> Path:
        """The folder in a local store. Sizes are checked; reading every byte again would cost the move."""
        path = Path(self.uri) / _CONTENT
        for name, expected in files.items():
            file = path / name
            size = file.stat().st_size if file.is_file() else -1
            if size != expected["bytes"]:
                raise _broken(file, size, expected)
        return path

    def _download(self, files: Mapping[str, Mapping[str, Any]]) -> Path:
        """The folder from a remote store, hashed while it comes; it lives as long as the step."""
        with self.get_temporary_directory(delete_at_exit=False) as folder:
            for name, expected in files.items():
                target = Path(folder) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                self._fetch(name, expected, target)
            return Path(folder)

    def _fetch(self, name: str, expected: Mapping[str, Any], target: Path) -> None:
        """One file from a remote store, hashed while it comes."""
        uri = f"{self.uri}/{_CONTENT}/{name}"
        if not self.artifact_store.exists(uri):
            raise _broken(Path(uri), -1, expected)
        with self.artifact_store.open(uri, "rb") as source, target.open("wb") as sink:
            sha256, size = _copied(source, sink)
        if size != expected["bytes"] or sha256 != expected["sha256"]:
            raise _broken(Path(uri), size, expected)

    def _reader(self, manifest: Mapping[str, Any]) -> FolderReader:
        files = manifest["files"]
        return FolderReader(
            f"{self.uri}/{_CONTENT}",
            files,
            manifest["content_hash"],
            manifest["facts"],
            self._in_place(files) if self._is_local else None,
            lambda uri: self.artifact_store.open(uri, "rb"),
            lambda name, target: self._fetch(name, files[name], target),
        )


def _names(path: Path) -> Iterator[str]:
    for folder, _, files in os.walk(path):
        for name in files:
            yield (Path(folder) / name).relative_to(path).as_posix()


def _copied(source: IO[bytes], sink: IO[bytes]) -> tuple[str, int]:
    """Copy a stream block by block; returns SHA-256 and size of what went through."""
    digest, size = hashlib.sha256(), 0
    while block := source.read(_BLOCK):
        digest.update(block)
        sink.write(block)
        size += len(block)
    return digest.hexdigest(), size


def _broken(file: Path, size: int, expected: Mapping[str, Any]) -> DataError:
    found = "is missing" if size < 0 else f"has {size} bytes"
    return DataError(
        f"stored file {found}, expected {expected['bytes']} bytes with SHA-256 "
        f"{expected['sha256'][:12]}…; run again with --no-cache",
        file=file,
    )
