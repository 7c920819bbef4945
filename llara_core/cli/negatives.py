"""Hard negatives as a file: JSON lines to read and edit, or Arrow for many."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.json

from llara_core.errors import DataError
from llara_core.files import new_file
from llara_core.retrieval.mining import NEGATIVES_SCHEMA as SCHEMA

__all__ = ["SCHEMA", "check_suffix", "read", "write"]

_SUFFIXES = (".jsonl", ".arrow")


def check_suffix(path: Path) -> None:
    """Refuse a file name of which the format cannot be told.

    Raises:
        DataError: the suffix is neither .jsonl nor .arrow.
    """
    if path.suffix not in _SUFFIXES:
        raise DataError(
            f"expected a name that ends in {' or '.join(_SUFFIXES)}", file=path, rule="negatives_format"
        )


def write(table: pa.Table, path: Path) -> None:
    """Write negatives atomically.

    Raises:
        DataError: the suffix is unknown, or the file cannot be written.
    """
    check_suffix(path)
    with new_file(path) as temporary:
        if path.suffix == ".arrow":
            with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
        else:
            with temporary.open("w", encoding="utf-8", newline="\n") as stream:
                stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())


def read(path: Path) -> pa.Table:
    """Read negatives written by ``write``, with the columns of ``SCHEMA``.

    Raises:
        DataError: the file is missing, malformed or lacks a column.
    """
    check_suffix(path)
    if not path.is_file():
        raise DataError("no such file; `llara mine` writes one", file=path, rule="file_exists")
    try:
        if path.suffix == ".arrow":
            with pa.OSFile(str(path), "rb") as source:
                table = pa.ipc.open_file(source).read_all()
        elif path.stat().st_size:
            options = pa.json.ParseOptions(explicit_schema=SCHEMA)
            table = pa.json.read_json(str(path), parse_options=options)
        else:
            table = SCHEMA.empty_table()
        return table.select(SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowInvalid, KeyError) as error:
        raise DataError(
            f"not a file of negatives ({error}); expected {', '.join(SCHEMA.names)}",
            file=path,
            rule="negatives_format",
        ) from None
