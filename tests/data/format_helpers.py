"""What the tests of formats share: packing a file, and reading a place strictly and with quarantine."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import zstandard

from llara_core.data.collection import Collection
from llara_core.data.formats import open_place_as_source, strict_collection
from llara_core.data.ingest import ingest

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "data"
PACKERS: Mapping[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """JSON lines as publishers write them: text as it is, not escaped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    return path


def read(place: Path | str, **options: Any) -> Collection:
    """The collection at a place."""
    return strict_collection(open_place_as_source(place, **options))


def read_both(place: Path | str, folder: Path, **options: Any) -> Collection:
    """The same, after asking that reading with quarantine takes every row in and gives the same."""
    source = open_place_as_source(place, **options)
    strict = strict_collection(source)
    ingested = ingest(source, folder)
    assert ingested.counts["quarantined"] == 0
    assert ingested.collection.content_hash == strict.content_hash
    return strict


def table(found: Any) -> list[tuple[Any, ...]]:
    """Rows of an Arrow table without their lines."""
    names = [name for name in found.column_names if name != "line"]
    return [tuple(row[name] for name in names) for row in found.to_pylist()]
