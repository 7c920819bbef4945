"""A stored folder of which a step reads a part: nothing is downloaded but what it asks for.

A step that names ``FolderReader`` as the type of an input gets one in place of a ``FolderArtifact``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any


@dataclass(frozen=True)
class FolderReader:
    """A finished folder in the artifact store.

    Args:
        uri: of its files.
        files: name to size in bytes and SHA-256.
        content_hash: what the cache of later steps goes by.
        facts: small JSON-able remarks.
        local: the folder, where the store is on this machine.
        opener: opens a file of the store by URI, to read bytes anywhere in it.
        fetch: copies a file of the store to a path, comparing hashes on the way.
    """

    uri: str
    files: Mapping[str, Mapping[str, Any]]
    content_hash: str
    facts: Mapping[str, Any]
    local: Path | None
    opener: Callable[[str], IO[bytes]]
    fetch: Callable[[str, Path], None]

    def open(self, name: str) -> IO[bytes]:
        """A file of it, to read parts of; close it after use.

        Raises:
            KeyError: it has no such file.
        """
        self.files[name]
        return self.opener(f"{self.uri}/{name}")

    def file(self, name: str) -> Path:
        """A whole file of it: in place, or a verified copy that lives as long as the step.

        Raises:
            DataError: it is missing, or not what was stored.
        """
        if self.local is not None:
            return self.local / name
        target = Path(tempfile.mkdtemp(prefix="llara-part-")) / Path(name).name
        self.fetch(name, target)
        return target

    def folder(self, below: str) -> Path:
        """All files below a folder of it, in place or as verified copies."""
        if self.local is not None:
            return self.local / below
        target = Path(tempfile.mkdtemp(prefix="llara-part-")) / below
        for name in self.files:
            if name.startswith(f"{below}/"):
                place = target.parent / name
                place.parent.mkdir(parents=True, exist_ok=True)
                self.fetch(name, place)
        return target
