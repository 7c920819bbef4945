"""The tables of a collection, written while they are read: a batch at a time, never whole in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray
from typing_extensions import Self

from llara_core.data.collection import CORPUS_SCHEMA, NEGATIVES_SCHEMA, QRELS_SCHEMA, QUERIES_SCHEMA
from llara_core.data.passages import ROWS_SCHEMA
from llara_core.errors import DataError

_SCHEMAS = {
    "corpus": CORPUS_SCHEMA,
    "queries": QUERIES_SCHEMA,
    "negatives": NEGATIVES_SCHEMA,
    "rows": ROWS_SCHEMA,
}


class TableWriters:
    """Arrow IPC files below a folder, one a table, opened when first needed; use it as a context.

    Args:
        folder: gets ``corpus.arrow``, ``queries.arrow``, ``qrels/<split>.arrow``, and ``negatives.arrow``
            and ``rows.arrow`` where there are any.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: Counter[str] = Counter()  # table to rows written
        self._open: dict[str, tuple[pa.OSFile, pa.ipc.RecordBatchFileWriter]] = {}

    def __enter__(self) -> Self:
        """Begin with the two tables that every collection has."""
        (self.folder / "qrels").mkdir(parents=True, exist_ok=True)
        for table in ("corpus", "queries"):
            self.begin(table)
        return self

    def __exit__(self, *_: object) -> None:
        """Close all files."""
        for sink, writer in self._open.values():
            writer.close()
            sink.close()

    def begin(self, table: str) -> None:
        """Make a table's file, so that it is there even if no row comes.

        Raises:
            DataError: a split's name cannot be a file's.
        """
        if table in self._open:
            return
        name = table.removeprefix("qrels/")
        if not name or "/" in name or "\\" in name or "\0" in name or name.startswith("."):
            raise DataError(f"{name!r} cannot be the name of a split; rename its file", rule="split_exists")
        sink = pa.OSFile(str(self.folder / f"{table}.arrow"), "wb")
        self._open[table] = sink, pa.ipc.new_file(sink, schema_of(table))

    def write(self, table: str, columns: Sequence[Any], keep: NDArray[np.bool_] | None = None) -> None:
        """Append rows.

        Args:
            table: which one.
            columns: of the table's schema, Arrow arrays or lists of N values each.
            keep: which of the rows, boolean ``[N]``; None: all.
        """
        self.begin(table)
        schema = schema_of(table)
        arrays = [
            column if isinstance(column, pa.Array) else pa.array(column, field.type)
            for column, field in zip(columns, schema, strict=True)
        ]
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        if keep is not None and not keep.all():
            batch = batch.filter(pa.array(keep))
        if batch.num_rows:
            self._open[table][1].write_batch(batch)
            self.rows[table] += batch.num_rows

    def write_rows(self, table: str, rows: Iterable[Sequence[Any]]) -> None:
        """Append rows, given one by one."""
        columns = list(zip(*rows, strict=True))
        if columns:
            self.write(table, columns)


def schema_of(table: str) -> pa.Schema:
    """The schema of ``corpus``, ``queries``, ``qrels/<split>``, ``negatives`` or ``rows``."""
    return QRELS_SCHEMA if table.startswith("qrels/") else _SCHEMAS[table]
