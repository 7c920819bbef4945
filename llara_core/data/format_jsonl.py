"""JSON lines of documents under names of their own: ``{"doc_no": 7, "body": "…"}``."""

from __future__ import annotations

from llara_core.data.format_base import Format, Request
from llara_core.data.format_tables import open_tables
from llara_core.data.raw import Source


def open_jsonl(request: Request) -> Source:
    """A file of JSON lines, or a folder of them.

    Raises:
        DataError: there is no such file, or no row has a text; says which fields there are.
    """
    return open_tables(request, "jsonl", ("jsonl",))


JSONL = Format(
    name="jsonl",
    files="*.jsonl, one file or a folder of shards; or corpus, queries and qrels/<split> as .jsonl",
    row='{"id": "7", "title": "Lava", "text": "Molten rock that …"}',
    recognised="by the suffix .jsonl (.ndjson, .json), where the fields are those of no other format",
    becomes="a document a row; ids that are missing become file:line; other names by columns",
    open=open_jsonl,
)
