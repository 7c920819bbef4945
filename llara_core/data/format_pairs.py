"""Opening files of training pairs, whatever their rows look like: JSON lines, CSV, TSV or Parquet."""

from __future__ import annotations

from collections.abc import Callable

from llara_core.data.format_base import Request, kind_of, split_of, tree, without_twins
from llara_core.data.format_tables import Table, open_table
from llara_core.data.places import as_text, name_of, shown
from llara_core.data.raw import Source, SourceFile
from llara_core.data.records import Convert
from llara_core.errors import DataError


def open_rows(
    request: Request, format: str, convert: Callable[[Table], Convert], role: str = "pairs"
) -> Source:
    """A file of pairs or adaptation rows, or a folder of them; the split is taken from each file's name.

    Args:
        request: what to open.
        format: name of the format.
        convert: a table → the converter of its rows; raises ``DataError`` where columns do not fit.
        role: ``pairs`` or ``rows``.

    Raises:
        DataError: there is no such file, or its columns do not fit.
    """
    files = {name: file for name, file in without_twins(tree(request.place)).items() if kind_of(file)}
    if not files:
        files = {name_of(request.place): as_text(request.place)}
    opened = []
    for relative, file in files.items():
        table = open_table(file, request.columns)
        own = f"pairs/{split_of(relative)}" if role == "pairs" else role
        opened.append(SourceFile(own, file, table.read, convert(table)))
    facts = {"place": str(shown(request.place)), "columns": dict(request.columns)}
    return Source(request.short_name, format, opened, facts)


def need(table: Table, *names: str) -> None:
    """Refuse a table that lacks one of these columns.

    Raises:
        DataError: names what is missing and what there is.
    """
    for name in names:
        if table.fields and name not in table.fields:
            raise DataError(
                f"no {name!r}; there are: {', '.join(table.fields[:12])}. Name it by collection.columns, or "
                "name another collection.format (`llara data formats` lists them)",
                file=shown(table.file),
                rule="columns",
            )
