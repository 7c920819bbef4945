"""Strict reading: a source becomes a collection in memory, or the first bad row is an error.

For what somebody names on the command line, where one wrong row should be told at once. Ingestion with
quarantine (``ingest``) reads the same sources by the same converters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import pyarrow as pa

from llara_core.data.collection import (
    CORPUS_SCHEMA,
    NEGATIVES_SCHEMA,
    QRELS_SCHEMA,
    QUERIES_SCHEMA,
    Collection,
)
from llara_core.data.pair_rows import PairRows
from llara_core.data.passages import ROWS_SCHEMA
from llara_core.data.places import shown
from llara_core.data.raw import RowError, Source, SourceFile
from llara_core.errors import DataError

_CHUNK = 50_000  # rows that stand as Python objects at a time: bounds memory on large corpora


def strict_collection(source: Source) -> Collection:
    """Read a source into memory.

    Args:
        source: of ``formats.open_source``.

    Returns:
        The collection; pairs become documents, queries, judgements of their split and ``negatives``;
        adaptation rows become ``rows``, and their texts documents.

    Raises:
        DataError: the first row that cannot be used, by file, row and rule; or the corpus is empty.
    """
    tables = _Tables()
    for file in source.files:
        role, _, split = file.role.partition("/")
        if role in ("pairs", "rows"):
            tables.pairs(file, split)
        else:
            tables.plain(file, role)
    corpus = tables.get("corpus", CORPUS_SCHEMA)
    if not corpus.num_rows:
        empty = next((one for one in source.files if one.role == "corpus"), source.files[0])
        raise DataError("the corpus is empty; add documents", file=shown(empty.file), rule="corpus_not_empty")
    qrels = [name for name in tables.names if name.startswith("qrels/")]
    negatives = tables.get("negatives", NEGATIVES_SCHEMA) if "negatives" in tables.names else None
    return Collection(
        name=source.name,
        corpus=corpus,
        queries=tables.get("queries", QUERIES_SCHEMA),
        qrels={name.removeprefix("qrels/"): tables.get(name, QRELS_SCHEMA) for name in qrels},
        files=files_of(source),
        negatives=None if negatives is None else tables.seen.without_positives(negatives),
        rows=tables.get("rows", ROWS_SCHEMA) if "rows" in tables.names else None,
    )


def files_of(source: Source) -> dict[str, str]:
    """Table → the file it came from, for messages; the place where it came from several."""
    files: dict[str, list[str]] = {}
    for file in source.files:
        role, _, split = file.role.partition("/")
        made = [f"qrels/{split}", "corpus", "queries"] if role == "pairs" else [file.role]
        for name in ["rows", "corpus"] if role == "rows" else made:
            files.setdefault(name, []).append(str(shown(file.file)))
    place = str(source.facts.get("place", ""))
    return {name: found[0] if len(found) == 1 else place for name, found in files.items()}


class _Tables:
    """Rows on their way into Arrow, table by table."""

    def __init__(self) -> None:
        self.seen = PairRows()
        self._rows: dict[str, list[tuple[Any, ...]]] = {}
        self._batches: dict[str, list[pa.RecordBatch]] = {}

    @property
    def names(self) -> list[str]:
        return list(self._rows)

    def plain(self, file: SourceFile, role: str) -> None:
        schema = _SCHEMAS[role]
        self._rows.setdefault(file.role, [])
        for number, entry in _entries(file):
            self._add(file.role, schema, (*entry, number) if schema is not NEGATIVES_SCHEMA else entry)

    def pairs(self, file: SourceFile, split: str) -> None:
        for name in ("negatives", "queries", f"qrels/{split}") if split else ("rows",):
            self._rows.setdefault(name, [])
        for number, entry in _entries(file):
            try:
                parts = self.seen.add(entry, split) if split else self.seen.add_rows(entry)
            except RowError as error:
                _fail(file, number, error.rule, str(error))
            for one in parts.documents:
                self._add("corpus", CORPUS_SCHEMA, (*one, number))
            for query in parts.queries:
                self._add("queries", QUERIES_SCHEMA, (*query, number))
            for judged in parts.judgements:
                self._add(f"qrels/{split}", QRELS_SCHEMA, (*judged, number))
            for negative in parts.negatives:
                self._add("negatives", NEGATIVES_SCHEMA, negative)
            if not split:
                self._add("rows", ROWS_SCHEMA, tuple(entry))

    def get(self, name: str, schema: pa.Schema) -> pa.Table:
        rows = self._rows.get(name)
        if rows:
            self._batches.setdefault(name, []).append(_batch(rows, schema))
            self._rows[name] = []
        return pa.Table.from_batches(self._batches.get(name, []), schema=schema)

    def _add(self, name: str, schema: pa.Schema, row: tuple[Any, ...]) -> None:
        rows = self._rows.setdefault(name, [])
        rows.append(row)
        if len(rows) == _CHUNK:
            self._batches.setdefault(name, []).append(_batch(rows, schema))
            self._rows[name] = []


_SCHEMAS = {
    "corpus": CORPUS_SCHEMA, "queries": QUERIES_SCHEMA, "qrels": QRELS_SCHEMA, "negatives": NEGATIVES_SCHEMA,
}  # fmt: skip


def _entries(file: SourceFile) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Row number and entry of every row."""
    for raw in file.read():
        if raw.fault is not None:
            _fail(file, raw.number, raw.fault.rule, raw.fault.reason)
        try:
            entry = file.convert(raw.record or {})
        except RowError as error:
            _fail(file, raw.number, error.rule, str(error))
        yield raw.number, entry


def _batch(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


def _fail(file: SourceFile, row: int, rule: str, message: str) -> NoReturn:
    if rule == "readable":  # it is the file that is broken, and no row can be mended
        raise DataError(message, file=shown(file.file), rule=rule)
    raise DataError(f"{message}; mend or remove the row", file=shown(file.file), row=row, rule=rule)
