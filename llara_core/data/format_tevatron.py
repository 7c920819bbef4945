"""Tevatron's training files: passages with ids and titles of their own.

Source: Tevatron's documentation of its data format; MLDR and other multilingual sets use it as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from llara_core.data.format_base import Format, Request
from llara_core.data.format_pairs import need, open_rows
from llara_core.data.format_tables import Table
from llara_core.data.raw import RowError, Source
from llara_core.data.records import Convert, Passage, identifier, optional, string

_POSITIVE, _NEGATIVE = "positive_passages", "negative_passages"


def open_tevatron(request: Request) -> Source:
    """A file of ``query_id, query, positive_passages, negative_passages``, or a folder of them.

    Raises:
        DataError: there is no such file, or no row has these fields.
    """
    query = request.columns.get("query", "query")

    def convert(table: Table) -> Convert:
        need(table, query, _POSITIVE)
        return partial(_pair, query=query, name=request.columns.get("query_id", "query_id"))

    return open_rows(request, "tevatron", convert)


def _pair(record: Mapping[str, Any], query: str, name: str) -> tuple[Any, ...]:
    positives = _passages(record, _POSITIVE)
    if not positives:
        raise RowError("has_positive", f"expected a passage under {_POSITIVE!r}, got none")
    given = record.get(name)
    return (
        None if given is None else identifier(record, name),
        string(query, record.get(query)),
        positives,
        _passages(record, _NEGATIVE),
    )


def _passages(record: Mapping[str, Any], key: str) -> list[Passage]:
    listed = record.get(key)
    if listed is None:
        return []
    if not isinstance(listed, list):
        raise RowError("has_text", f"expected a list of passages under {key!r}, got {listed!r:.60}")
    made: list[Passage] = []
    for one in listed:
        if not isinstance(one, dict):
            raise RowError("has_text", f"expected docid, title and text in {key!r}, got {one!r:.60}")
        id_ = None if one.get("docid") is None else identifier(one, "docid")
        made.append((id_, optional(one, "title"), string(f"{key}.text", one.get("text"))))
    return made


TEVATRON = Format(
    name="tevatron",
    files="*.jsonl, one file or a folder; train, dev, test in a name gives the split",
    row='{"query_id": "1", "query": "…", "positive_passages": [{"docid": "7", "title": "", "text": "…"}], '
    '"negative_passages": []}',
    recognised="by the fields query and positive_passages",
    becomes="as flag_embedding, under the ids given",
    open=open_tevatron,
)
