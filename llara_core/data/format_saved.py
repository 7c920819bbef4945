"""Collections that were read before: a saved folder, or one in memory, as a source like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from llara_core.data.collection import Collection
from llara_core.data.format_base import Format, Request
from llara_core.data.format_parquet import batch_rows
from llara_core.data.raw import Raw, Source, SourceFile
from llara_core.data.records import identifier, optional, string

_ROWS = 1024  # turned into Python objects at a time


def open_saved(request: Request) -> Source:
    """A folder written by ``Collection.save``.

    Raises:
        DataError: it is none.
    """
    collection = Collection.load(Path(request.place))
    return collection_source(
        collection, "saved", request.place, name=request.name, corpus_only=request.corpus_only
    )


def collection_source(
    collection: Collection, format: str, place: str, *, name: str | None = None, corpus_only: bool = False
) -> Source:
    """A collection's tables as the files of a source.

    Args:
        collection: its tables may be memory-mapped; they are read in batches.
        format: what the source calls itself.
        place: where it came from, for messages.
        name: None keeps the collection's.
        corpus_only: leave queries and judgements out.
    """
    tables = [("corpus", collection.corpus, _document)]
    if not corpus_only:
        tables.append(("queries", collection.queries, _query))
        tables += [(f"qrels/{split}", table, _judgement) for split, table in sorted(collection.qrels.items())]
        if collection.negatives is not None:
            tables.append(("negatives", collection.negatives, _negative))
    files = [
        table_file(role, str(collection.files.get(role, place)), table, convert)
        for role, table, convert in tables
    ]
    return Source(name or collection.name, format, files, {"place": place, **collection.report})


def table_file(
    role: str, file: str, table: pa.Table, convert: Callable[[Mapping[str, Any]], tuple[Any, ...]]
) -> SourceFile:
    """An Arrow table as one file of a source; rows are numbered from 1."""
    return SourceFile(role, file, partial(_rows, table), convert)


def _rows(table: pa.Table) -> Iterator[Raw]:
    before = 0
    for batch in table.to_batches(max_chunksize=_ROWS):
        yield from batch_rows(batch, before)
        before += batch.num_rows


def _document(record: Mapping[str, Any]) -> tuple[Any, ...]:
    group = record.get("group")
    return (
        identifier(record, "_id"),
        optional(record, "title"),
        string("text", record.get("text")),
        group,
        record.get("position"),
    )


def _query(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return identifier(record, "_id"), string("text", record.get("text"))


def _judgement(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return identifier(record, "query_id"), identifier(record, "corpus_id"), record["score"]


def _negative(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return identifier(record, "query_id"), identifier(record, "corpus_id")


SAVED = Format(
    name="saved",
    files="collection.json, corpus.arrow, queries.arrow, qrels/<split>.arrow",
    row="as written by `llara data ingest` and `llara collection`",
    recognised="by collection.json",
    becomes="the collection as it was",
    open=open_saved,
)
