"""Tables of named columns: JSON lines, CSV, TSV and Parquet read alike, and columns found by their names.

A place is one table of documents (or several, as shards), or a folder with ``corpus``, ``queries`` and
``qrels/<split>``, each in any of these kinds. Issue 5, point 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import NoReturn

from llara_core.data.format_base import Request, kind_of, name_of_place, tree, without_twins
from llara_core.data.places import as_text, bare_name, is_file, read_json_lines, shown
from llara_core.data.raw import Raw, Source, SourceFile
from llara_core.data.records import PLACE, Convert, documents, judgements, queries
from llara_core.errors import DataError

SAMPLED = 20  # rows looked at to learn which columns there are
# Names that publishers give to the same thing, the likelier first; case does not count.
ALIASES: Mapping[str, Sequence[str]] = {
    "id": ("_id", "id", "docid", "doc_id", "document_id", "pid", "passage_id", "corpus_id", "corpus-id"),
    "text": ("text", "contents", "content", "body", "passage"),
    "title": ("title", "heading", "headline"),
    "group": ("group",),
    "position": ("position",),
    "query_id": ("query-id", "query_id", "qid", "_id", "id"),
    "query": ("text", "query", "question"),
    "corpus_id": ("corpus-id", "corpus_id", "docid", "doc_id", "document_id", "pid", "passage_id"),
    "score": ("score", "relevance", "rel", "grade"),
}


@dataclass(frozen=True)
class Table:
    """One file of rows with named columns.

    Args:
        file: its place.
        fields: names of the columns; of JSON lines those that the first rows have.
        read: yields every row, its record keyed by these names.
    """

    file: str
    fields: tuple[str, ...]
    read: Callable[[], Iterator[Raw]]


def open_table(file: str, columns: Mapping[str, str] | None = None, kind: str = "") -> Table:
    """Open a table and look at its first rows.

    Args:
        file: its place.
        columns: ours → the file's own; tells a CSV's header from its rows.
        kind: ``jsonl``, ``csv``, ``tsv`` or ``parquet``; "" takes it from the name.

    Raises:
        DataError: it cannot be opened, or its kind cannot be told.
    """
    kind = kind or kind_of(file)
    if kind in ("csv", "tsv"):
        from llara_core.data.format_delimited import open_delimited

        return open_delimited(file, kind, columns or {})
    if kind == "parquet":
        from llara_core.data.format_parquet import open_parquet

        return open_parquet(file)
    read = partial(read_json_lines, file)
    names: dict[str, None] = {}
    for raw in islice(read(), SAMPLED):
        names |= dict.fromkeys(raw.record or ())
    return Table(file, tuple(names), read)


def find(ours: str, table: Table, columns: Mapping[str, str], key: str = "") -> str | None:
    """The table's column for one of ours; None where it has none.

    Args:
        ours: a key of ``ALIASES``.
        table: where to look.
        columns: the user's mapping, which counts before any alias.
        key: of the mapping; "": the same.

    Raises:
        DataError: the mapping names a column, and the table has neither that nor one of a usual name.
    """
    named = columns.get(key or ours)
    if named is not None and named in table.fields:
        return named
    lower = {field.lower(): field for field in reversed(table.fields)}
    for alias in ALIASES[ours]:
        if alias in lower and lower[alias] not in columns.values():
            return lower[alias]
    if not table.fields:  # no row could be read: reading says why
        return named
    if named is not None:
        _missing(ours, key or ours, table, named)
    return None


def need(ours: str, table: Table, columns: Mapping[str, str], key: str = "") -> str:
    """The same, for a column that there must be.

    Raises:
        DataError: there is none; says which there are and how to name one.
    """
    found = find(ours, table, columns, key)
    if found is None and table.fields:
        _missing(ours, key or ours, table, None)
    return found or ALIASES[ours][0]


def _missing(ours: str, key: str, table: Table, named: str | None) -> NoReturn:
    there = ", ".join(table.fields[:12]) + (", …" if len(table.fields) > 12 else "")
    known = f" (known names: {', '.join(ALIASES[ours])})" if named is None else ""
    raise DataError(
        f"no column {named or 'for ' + key}{known}; there are: {there}. Name it by collection.columns, "
        f"e.g. {{{key}: {table.fields[-1]}}}",
        file=shown(table.file),
        rule="columns",
    )


def document_file(table: Table, relative: str, columns: Mapping[str, str]) -> SourceFile:
    """A table of documents as a file of a source.

    Args:
        table: the rows.
        relative: path below the source, for the ids of rows that have none.
        columns: ours → the file's own.

    Raises:
        DataError: it has no column for the text.
    """
    text = need("text", table, columns)
    id_, title, group, position = (find(one, table, columns) for one in ("id", "title", "group", "position"))
    convert = documents(id_, text, title, group, position)
    read = table.read if id_ is not None else partial(placed, table.read, relative)
    return SourceFile("corpus", table.file, read, convert)


def placed(read: Callable[[], Iterator[Raw]], relative: str) -> Iterator[Raw]:
    """Rows with their place, ``articles.csv:12``, for those that have no ids."""
    for raw in read():
        if raw.record is None:
            yield raw
        else:
            yield raw._replace(record={**raw.record, PLACE: f"{relative}:{raw.number}"})


def query_file(table: Table, columns: Mapping[str, str]) -> SourceFile:
    """A table of queries as a file of a source; raises as ``document_file``."""
    key = "query_id" if "query_id" in columns else "id"
    word = "query" if "query" in columns else "text"
    id_, text = need("query_id", table, columns, key), need("query", table, columns, word)
    return SourceFile("queries", table.file, table.read, queries(id_, text))


def judgement_file(table: Table, split: str, columns: Mapping[str, str]) -> SourceFile:
    """A table of judgements as a file of a source; raises as ``document_file``."""
    query, document = need("query_id", table, columns), need("corpus_id", table, columns)
    convert: Convert = judgements(query, document, find("score", table, columns))
    return SourceFile(f"qrels/{split}", table.file, table.read, convert)


def open_tables(request: Request, format: str, kinds: Sequence[str]) -> Source:
    """A source of tables: a file, shards in a folder, or ``corpus``, ``queries`` and ``qrels``.

    Args:
        request: what to open.
        format: name of the format, for the source.
        kinds: which kinds of files are meant; others in the folder are not read.

    Raises:
        DataError: there is no such file, or a column is missing.
    """
    files = without_twins(tree(request.place)) or {bare_name(request.place): as_text(request.place)}
    single = len(files) == 1 and is_file(request.place)
    meant = {name: file for name, file in files.items() if single or kind_of(file) in kinds}
    if not meant:
        raise DataError(
            f"no file ending in {', '.join('.' + one for one in kinds)} here",
            file=shown(request.place),
            rule="file_exists",
        )
    parts = layout_of(files)
    facts = {"place": str(shown(request.place)), "columns": dict(request.columns)}
    source = partial(Source, name=request.short_name, format=format, facts=facts)
    if "corpus" not in parts:
        kind = kinds[0] if single and not kind_of(request.place) else ""
        return source(files=[
            document_file(open_table(file, request.columns, kind), name, request.columns)
            for name, file in meant.items()
        ])  # fmt: skip
    return source(files=_laid_out(parts, request))


def _laid_out(parts: Mapping[str, list[tuple[str, str]]], request: Request) -> list[SourceFile]:
    columns = request.columns
    opened = [document_file(open_table(file, columns), name, columns) for name, file in parts["corpus"]]
    if request.corpus_only:
        return opened
    opened += [query_file(open_table(file, columns), columns) for _, file in parts.get("queries", [])]
    for role, found in parts.items():
        if role.startswith("qrels/"):
            split = role.removeprefix("qrels/")
            opened += [judgement_file(open_table(file, columns), split, columns) for _, file in found]
    return opened


def layout_of(files: Mapping[str, str]) -> dict[str, list[tuple[str, str]]]:
    """Role → (name, place) of files called ``corpus``, ``queries`` and ``qrels/<split>``, or in such folders.

    Args:
        files: path below the root without packing → place.
    """
    parts: dict[str, list[tuple[str, str]]] = {}
    for name, file in files.items():
        if not kind_of(file):
            continue
        first, _, rest = name.partition("/")
        stem = name_of_place(first)
        if rest and first == "qrels":
            stem = f"qrels/{name_of_place(rest)}"
        if stem in ("corpus", "queries") or stem.startswith("qrels/"):
            parts.setdefault(stem, []).append((name, file))
    order = {"corpus": 0, "queries": 1}
    return dict(sorted(parts.items(), key=lambda part: (order.get(part[0], 2), part[0])))
