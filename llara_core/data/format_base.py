"""What the modules of the single formats share: a request, a format's description, and a place's files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from llara_core.data.places import as_text, bare_name, is_url, list_files
from llara_core.data.raw import Source
from llara_core.errors import ConfigError
from llara_core.settings import nearest

# Ours → what `columns` may map to the names that stand in a file.
COLUMNS = (
    "id", "text", "title", "group", "position", "query_id", "corpus_id", "score",
    "query", "positive", "negative", "next_text",
)  # fmt: skip
KINDS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "tsv", ".tab": "tsv",
    ".parquet": "parquet",
}  # fmt: skip
_BLOCK = 1 << 20  # bytes hashed at a time
_SPLIT = re.compile(r"(?:^|[-_./])(train|dev|test|validation|valid|val|eval)(?=[-_./]|\d*$|$)", re.IGNORECASE)
_SPLITS = {
    "train": "train", "dev": "dev", "test": "test", "validation": "dev", "valid": "dev", "val": "dev",
    "eval": "dev",
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What is to be opened, and how.

    Args:
        place: path, URL or hub id, as ``places.as_text`` gives it.
        name: of the collection; None: taken from the place.
        columns: ours → the file's own, e.g. ``{"text": "body"}``.
        revision: of a hub's repository.
        corpus_only: leave queries and judgements unopened, and allow them to be missing.
    """

    place: str
    name: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    revision: str | None = None
    corpus_only: bool = False

    @property
    def short_name(self) -> str:
        """The given name, or the place's own without suffixes."""
        return self.name or name_of_place(self.place)


@dataclass(frozen=True)
class Format:
    """One format: how it looks, how it is recognised and what becomes of it; ``open`` opens a place.

    Args:
        name: the key in ``formats.FORMATS``, and what ``collection.format`` takes.
        files: which files there are.
        row: one row as an example.
        recognised: by what ``auto`` knows it.
        becomes: what its rows become.
        open: a request → the source, of which at most the first rows were read. Raises ``DataError``.
    """

    name: str
    files: str
    row: str
    recognised: str
    becomes: str
    open: Callable[[Request], Source]


def check_columns(columns: Mapping[str, str]) -> None:
    """Refuse a key that means nothing.

    Raises:
        ConfigError: names the nearest known key.
    """
    for key in columns:
        if key not in COLUMNS:
            raise ConfigError(f"collection.columns: {key}: unknown{nearest(key, list(COLUMNS))}")


def tree(place: str) -> dict[str, str]:
    """Path below the place → place, of every file in a folder or zip; empty for a file.

    Raises:
        DataError: there is no such place.
    """
    files = list_files(place)
    if files == [as_text(place)]:
        return {}
    if is_url(place):
        root = as_text(place).rstrip("/")
        return {file[len(root) + 1 :]: file for file in files}
    return {Path(file).relative_to(Path(as_text(place))).as_posix(): file for file in files}


def kind_of(file: str) -> str:
    """``jsonl``, ``csv``, ``tsv`` or ``parquet`` by a file's name without its packing, or nothing."""
    bare = bare_name(file).lower()
    return next((kind for suffix, kind in KINDS.items() if bare.endswith(suffix)), "")


def name_of_place(place: str) -> str:
    """A place's last part without suffixes: ``scifact`` of ``s3://sets/scifact.zip``."""
    text = as_text(place)
    bare = bare_name(text if is_url(text) else str(Path(text).resolve()))
    for suffix in (*KINDS, ".zip"):
        bare = bare.removesuffix(suffix)
    return bare or "collection"


def split_of(relative: str) -> str:
    """The split that a file's name tells: ``train``, ``dev`` or ``test``; ``train`` where it tells none.

    Args:
        relative: path below the source: a folder of it may be called ``test`` as well, those above not.
    """
    folder, _, name = relative.rpartition("/")
    found = _SPLIT.findall(bare_name(name))
    words = [found[0].lower()] if found else [part.lower() for part in folder.split("/")]
    return next((_SPLITS[one] for one in words if one in _SPLITS), "train")


def without_twins(files: Mapping[str, str]) -> dict[str, str]:
    """Files by their names without packing; a plain file wins over its packed twin.

    Args:
        files: path below the root → place.
    """
    chosen: dict[str, str] = {}
    for relative, place in sorted(files.items(), key=lambda item: (item[0].count("/"), item[0])):
        folder, slash, name = relative.rpartition("/")
        key = f"{folder}{slash}{bare_name(name)}"
        if key not in chosen or relative == key:
            chosen[key] = place
    return chosen


def bytes_fingerprint(files: Mapping[str, Path]) -> str:
    """SHA-256 over the names and bytes of local files.

    Args:
        files: what each is called in the fingerprint → the file.
    """
    digest = hashlib.sha256()
    for key, file in sorted(files.items()):
        found = file.stat()
        digest.update(f"{key}\0{file.name}\0{found.st_size}\0".encode())
        digest.update(_bytes_digest(file, found.st_size, found.st_mtime_ns))
    return digest.hexdigest()


@lru_cache(maxsize=8)
def _bytes_digest(file: Path, _size: int, _changed: int) -> bytes:
    """SHA-256 of a file's bytes; a zip of twelve collections is read once for all of them."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.digest()
