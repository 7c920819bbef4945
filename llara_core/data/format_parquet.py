"""Parquet: a file, or a folder of shards, read by record batches."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic_core import to_json

from llara_core.data.format_base import Format, Request
from llara_core.data.format_tables import Table, open_tables
from llara_core.data.places import as_text, open_place, open_seekable, packing_of, shown
from llara_core.data.raw import KEPT_BYTES, Fault, Raw, Source
from llara_core.errors import DataError

_ROWS = 1024  # of a record batch: bounds memory where rows are long
_BLOCK = 1 << 20


def open_parquet_source(request: Request) -> Source:
    """A Parquet file or a folder of shards.

    Raises:
        DataError: there is no such file, it is no Parquet, or a column is missing.
    """
    return open_tables(request, "parquet", ("parquet",))


def open_parquet(file: str) -> Table:
    """A Parquet file as a table; only its schema is read.

    Raises:
        DataError: it is no Parquet, or damaged.
    """
    with _opened(file) as stream:
        fields = tuple(_parquet(stream, file).schema_arrow.names)
    return Table(file, fields, partial(_rows, file))


def _rows(file: str) -> Iterator[Raw]:
    number = 0
    with _opened(file) as stream:
        parquet = _parquet(stream, file)
        try:
            for batch in parquet.iter_batches(batch_size=_ROWS):
                yield from batch_rows(batch, number)
                number += batch.num_rows
        except (OSError, pa.ArrowException) as error:
            yield Raw(number + 1, None, b"", Fault("readable", f"cannot be read after row {number}: {error}"))


def batch_rows(batch: pa.RecordBatch, before: int) -> Iterator[Raw]:
    """The rows of a record batch; what is kept of a row for repair is its JSON.

    Args:
        batch: the rows.
        before: rows in front of it.
    """
    try:
        records: list[Any] = batch.to_pylist()
    except UnicodeDecodeError:
        records = [_row(batch, row) for row in range(batch.num_rows)]
    for number, record in enumerate(records, start=before + 1):
        if isinstance(record, Fault):
            yield Raw(number, None, b"", record)
            continue
        kept = _as_json(record)
        yield Raw(number, record, kept[:KEPT_BYTES], size=len(kept))


def _row(batch: pa.RecordBatch, row: int) -> dict[str, Any] | Fault:
    try:
        return cast("dict[str, Any]", batch.slice(row, 1).to_pylist()[0])
    except UnicodeDecodeError as error:
        wrong = error.object[error.start]
        return Fault("valid_utf8", f"not valid UTF-8 (byte 0x{wrong:02x} at offset {error.start} of a value)")


def _as_json(record: dict[str, Any]) -> bytes:
    try:
        return to_json(record, bytes_mode="base64", inf_nan_mode="constants")
    except ValueError:  # half a surrogate pair; the rules say so
        return repr(record).encode("utf-8", "backslashreplace")


def _opened(file: str) -> IO[bytes]:
    """The file, where it can be read here and there; a packed one is unpacked to a temporary file first."""
    if not packing_of(file) and ".zip" not in as_text(file).lower():
        return open_seekable(file)
    unpacked = tempfile.TemporaryFile()  # noqa: SIM115 (closed by whoever reads it)
    with open_place(file) as stream:
        while block := stream.read1(_BLOCK):
            unpacked.write(block)
    unpacked.seek(0)
    return unpacked


def _parquet(stream: IO[bytes], file: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(stream)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"cannot be read as Parquet: {error}; is it complete?", file=shown(file), rule="readable"
        ) from None


PARQUET = Format(
    name="parquet",
    files="*.parquet, one file or a folder of shards; or corpus, queries and qrels/<split>",
    row="columns id, title, text",
    recognised="by the suffix .parquet, where the columns are those of no other format",
    becomes="a document a row, as for jsonl",
    open=open_parquet_source,
)
