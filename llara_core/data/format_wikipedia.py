"""Wikipedia extracts: ``id, title, text`` as JSON lines or Parquet, and WikiExtractor's files.

WikiExtractor writes ``AA/wiki_00`` …: JSON lines with ``--json``, and ``<doc id="…" title="…">`` … ``</doc>``
without it. Old versions repeat the title as the text's first line; it is left out, since title and text
are joined later. Source: WikiExtractor's documentation of its output.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any

from llara_core.data.format_base import Format, Request, kind_of, tree, without_twins
from llara_core.data.format_beir import decoded
from llara_core.data.format_tables import need, open_table
from llara_core.data.places import LONGEST, as_text, bare_name, read_rows, shown
from llara_core.data.raw import KEPT_BYTES, Fault, Raw, Source, SourceFile
from llara_core.data.records import Convert, identifier, optional, string
from llara_core.errors import DataError

EXTRACTED = "wiki_"  # WikiExtractor's files have no suffix: AA/wiki_00
_DOC = re.compile(r'<doc id="([^"]*)"(?:[^>]*?) title="([^"]*)"[^>]*>\s*')
_END = "</doc>"


def open_wikipedia(request: Request) -> Source:
    """Extracted articles: a file, or a folder of them.

    Raises:
        DataError: there is no such file, or it holds no articles.
    """
    files = without_twins(tree(request.place)) or {bare_name(request.place): as_text(request.place)}
    meant = {name: file for name, file in files.items() if is_extracted(file) or kind_of(file)}
    if not meant and len(files) == 1:
        meant = files
    if not meant:
        raise DataError(
            "no extracted articles; expected AA/wiki_00 …, .jsonl or .parquet with id, title and text",
            file=shown(request.place),
            rule="file_exists",
        )
    opened = [_file(file, request.columns) for file in meant.values()]
    return Source(request.short_name, "wikipedia", opened, {"place": str(shown(request.place))})


def is_extracted(file: str) -> bool:
    """Whether a file is called as WikiExtractor calls its files."""
    return bare_name(file).startswith(EXTRACTED) and "." not in bare_name(file)


def _file(file: str, columns: Mapping[str, str]) -> SourceFile:
    first = next(iter(islice(read_rows(file, _text), 1)), None) if kind_of(file) != "parquet" else None
    if first is not None and first.raw.startswith(b"<doc "):
        return SourceFile("corpus", file, partial(_read_docs, file), _converter("id", "title", "text"))
    table = open_table(file, columns)
    id_, title, text = (need(ours, table, columns) for ours in ("id", "title", "text"))
    return SourceFile("corpus", file, table.read, _converter(id_, title, text))


def _converter(id_: str, title: str, text: str) -> Convert:
    def convert(record: Mapping[str, Any]) -> tuple[Any, ...]:
        heading, body = optional(record, title), string(text, record.get(text))
        if heading and body.startswith(f"{heading}\n"):
            body = body[len(heading) :].lstrip("\n")
        return identifier(record, id_), heading, body, None, None

    return convert


def _text(line: bytes) -> Mapping[str, Any]:
    return {"line": decoded(line)}


def _read_docs(file: str) -> Iterator[Raw]:
    """Articles between ``<doc …>`` and ``</doc>``; blank lines between paragraphs are not kept."""
    doc: list[Raw] = []
    size = 0
    for raw in read_rows(file, _text):
        line = "" if raw.record is None else raw.record["line"].strip("\r")
        if line.startswith("<doc "):
            if doc:
                yield _broken(doc, "the article has no </doc>")
            doc, size = [raw], 0
        elif raw.fault is not None and not doc:
            yield raw
        elif not doc:
            yield raw._replace(record=None, fault=Fault("wikipedia_doc", "text outside of <doc …> … </doc>"))
        elif line.strip() == _END:
            yield _article(doc)
            doc = []
        else:
            size += raw.size
            if size <= LONGEST:
                doc.append(raw)
            else:
                yield _broken(doc, f"the article has more than {LONGEST:,} bytes", "row_length")
                doc = []
    if doc:
        yield _broken(doc, "the file ends inside of the article")


def _article(doc: list[Raw]) -> Raw:
    raw = b"\n".join(line.raw for line in doc)[:KEPT_BYTES]
    whole = doc[0]._replace(raw=raw, size=sum(line.size + 1 for line in doc))
    fault = next((line.fault for line in doc if line.fault is not None), None)
    head = None if fault else _DOC.match((doc[0].record or {})["line"])
    if head is None:
        fault = fault or Fault("wikipedia_doc", "expected <doc id=… title=…>")
        return whole._replace(record=None, fault=fault)
    text = "\n".join((line.record or {})["line"] for line in doc[1:])
    record = {"id": head[1], "title": html.unescape(head[2]), "text": html.unescape(text)}
    return whole._replace(record=record)


def _broken(doc: list[Raw], reason: str, rule: str = "wikipedia_doc") -> Raw:
    return _article(doc)._replace(record=None, fault=Fault(rule, reason))


WIKIPEDIA = Format(
    name="wikipedia",
    files="AA/wiki_00 … (WikiExtractor, with or without --json), or .jsonl, .parquet, .csv",
    row='{"id": "12", "url": "…", "title": "Anarchism", "text": "Anarchism is …"}',
    recognised="by names wiki_NN, or by exactly the fields id, title, text and perhaps url, revid",
    becomes="an article a document; a title repeated as the text's first line is left out",
    open=open_wikipedia,
)
