"""Hard negatives and teacher scores as files: JSON lines to read and edit, or Arrow for many."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.json

from llara_core.errors import DataError
from llara_core.files import new_file
from llara_core.retrieval.mining import NEGATIVES_SCHEMA as SCHEMA

__all__ = ["SCHEMA", "check_suffix", "read", "read_table", "write"]

_SUFFIXES = (".jsonl", ".arrow")


def check_suffix(path: Path, rule: str = "negatives_format") -> None:
    """Refuse a file name of which the format cannot be told.

    Raises:
        DataError: the suffix is neither .jsonl nor .arrow.
    """
    if path.suffix not in _SUFFIXES:
        raise DataError(f"expected a name that ends in {' or '.join(_SUFFIXES)}", file=path, rule=rule)


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
    return read_table(path, SCHEMA, "negatives", "; `llara mine` writes one")


def read_table(path: Path, schema: pa.Schema, what: str, source: str = "") -> pa.Table:
    """Read a file of JSON lines or Arrow, with the columns of ``schema``; others are left out.

    Args:
        path: ends in .jsonl or .arrow.
        schema: names and types.
        what: is in it, for messages; ``negatives`` or ``teacher scores``.
        source: where such a file comes from, for the message that there is none.

    Raises:
        DataError: the file is missing, malformed or lacks a column.
    """
    rule = f"{what.replace(' ', '_')}_format"
    check_suffix(path, rule)
    if not path.is_file():
        raise DataError(f"no such file{source}", file=path, rule="file_exists")
    try:
        if path.suffix == ".arrow":
            with pa.OSFile(str(path), "rb") as stream:
                table = pa.ipc.open_file(stream).read_all()
        elif path.stat().st_size:
            options = pa.json.ParseOptions(explicit_schema=schema)
            table = pa.json.read_json(str(path), parse_options=options)
        else:
            table = schema.empty_table()
        return table.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, KeyError) as error:
        raise DataError(
            f"not a file of {what} ({error}); expected {', '.join(schema.names)}",
            file=path,
            rule=rule,
        ) from None
