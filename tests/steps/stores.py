"""Artifact stores for tests: a folder that counts as remote, and fsspec's ``memory://``."""

from __future__ import annotations

import datetime
from typing import Any, ClassVar
from uuid import uuid4

import fsspec
from zenml.artifact_stores import BaseArtifactStore, BaseArtifactStoreConfig
from zenml.artifact_stores.local_artifact_store import LocalArtifactStore, LocalArtifactStoreConfig
from zenml.enums import StackComponentType


class RemoteConfig(LocalArtifactStoreConfig):
    """Files on this disk that the materializer must not touch by path."""

    @property
    def is_local(self) -> bool:
        return False


class MemoryConfig(BaseArtifactStoreConfig):
    SUPPORTED_SCHEMES: ClassVar[set[str]] = {"memory://"}
    IS_IMMUTABLE_FILESYSTEM: ClassVar[bool] = False


class MemoryStore(BaseArtifactStore):
    """fsspec's file system of this process's memory, as ZenML's S3 and GCS stores wrap theirs."""

    @property
    def filesystem(self) -> Any:
        return fsspec.filesystem("memory")

    def open(self, path: Any, mode: str = "r") -> Any:
        return self.filesystem.open(str(path), mode)

    def exists(self, path: Any) -> bool:
        return bool(self.filesystem.exists(str(path)))

    def makedirs(self, path: Any) -> None:
        self.filesystem.makedirs(str(path), exist_ok=True)

    mkdir = makedirs

    def _unused(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("the materializer has no need of it")

    copyfile = glob = isdir = listdir = remove = rename = rmtree = stat = size = walk = _unused


def make_store(kind: str, path: str) -> Any:
    """A store of ``kind``: ``local``, ``remote`` or ``memory``."""
    now = datetime.datetime.now()
    known: dict[str, tuple[Any, Any]] = {
        "local": (LocalArtifactStore, LocalArtifactStoreConfig),
        "remote": (LocalArtifactStore, RemoteConfig),
        "memory": (MemoryStore, MemoryConfig),
    }
    store, config = known[kind]
    return store(
        name="test", id=uuid4(), config=config(path=path), flavor="local",
        type=StackComponentType.ARTIFACT_STORE, user=uuid4(), created=now, updated=now,
    )  # fmt: skip
