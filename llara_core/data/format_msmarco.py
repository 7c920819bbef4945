"""MS MARCO's passage ranking files, as they are published: TSV without headers.

``collection.tsv`` (passage id, text), ``queries.<split>.tsv`` (query id, text), ``qrels.<split>.tsv``
(TREC's four columns: query id, 0, passage id, grade), triples of ids (``qidpidtriples.*``: query id,
positive, negative) and of text (``triples.train.*``: query, positive, negative).
Source: MS MARCO's passage ranking page (Nguyen et al. 2016). The texts hold U+2028, U+0085 and other
separators: only a line feed ends a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from llara_core.data.format_base import Format, Request, tree, without_twins
from llara_core.data.format_beir import decoded
from llara_core.data.places import as_text, bare_name, read_rows, shown
from llara_core.data.raw import Raw, RowError, Source, SourceFile
from llara_core.data.records import Convert, judgement, string
from llara_core.errors import DataError

_QUERIES = re.compile(r"queries\.(.+)\.tsv")
_QRELS = re.compile(r"qrels\.(.+)\.(?:tsv|txt)|qrels\.(.+)")
_ID_TRIPLES = re.compile(r"qidpidtriples\..+")
_TEXT_TRIPLES = re.compile(r"triples\.(train|dev|test)\..+|triples(?:\.(train|dev|test))?\.tsv")


def role_of(name: str) -> str:
    """What a file of MS MARCO's holds, by its name without packing; nothing where it is none of them."""
    if name in ("collection.tsv", "corpus.tsv"):
        return "corpus" if name == "collection.tsv" else ""
    if _QUERIES.fullmatch(name):
        return "queries"
    if _ID_TRIPLES.fullmatch(name):
        return "negatives"
    if match := _TEXT_TRIPLES.fullmatch(name):
        return f"pairs/{match[1] or match[2] or 'train'}"
    if match := _QRELS.fullmatch(name):
        return f"qrels/{match[1] or match[2]}"
    return ""


def open_msmarco(request: Request) -> Source:
    """MS MARCO's files in a folder, or one file of triples of text, or the collection alone.

    Raises:
        DataError: there are no such files, or a part is missing.
    """
    files = without_twins(tree(request.place)) or {bare_name(request.place): as_text(request.place)}
    roles: dict[str, list[tuple[str, str]]] = {}
    for path, file in files.items():
        name = path.rpartition("/")[2]
        if role := role_of(name):
            roles.setdefault(role, []).append((name, file))
    if "corpus" in roles:
        roles = {role: found for role, found in roles.items() if not role.startswith("pairs/")}
    if request.corpus_only and "corpus" in roles:
        roles = {"corpus": roles["corpus"]}
    _complete(request, roles)
    opened = [
        SourceFile(role, file, *_reading(role, file))
        for role in sorted(roles, key=_order)
        for _, file in (_whole_queries(roles[role]) if role == "queries" else roles[role])
    ]
    return Source(request.short_name, "msmarco", opened, {"place": str(shown(request.place))})


def _complete(request: Request, roles: Mapping[str, list[tuple[str, str]]]) -> None:
    missing = ""
    if not roles or not ("corpus" in roles or any(role.startswith("pairs/") for role in roles)):
        missing = "collection.tsv or triples.train.small.tsv"
    elif "negatives" in roles and not any(role.startswith("qrels/") for role in roles):
        missing = "qrels.train.tsv, which says what the triples' positives are"
    if missing:
        raise DataError(
            f"missing {missing}; MS MARCO has collection.tsv, queries.<split>.tsv and qrels.<split>.tsv",
            file=shown(request.place),
            rule="file_exists",
        )


def _whole_queries(files: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Queries without ``queries.dev.small.tsv``, where ``queries.dev.tsv`` holds the same ones."""
    names = {name for name, _ in files}
    return [(name, file) for name, file in files if name.replace(".small.", ".") not in names - {name}]


def _order(role: str) -> tuple[int, str]:
    kinds = ("corpus", "queries", "qrels", "pairs", "negatives")
    return kinds.index(role.partition("/")[0]), role


def _reading(role: str, file: str) -> tuple[Callable[[], Iterator[Raw]], Convert]:
    """How a file's rows are read, and what becomes of them."""
    kind = role.partition("/")[0]
    ways: dict[str, tuple[Callable[[bytes], Mapping[str, Any]], Convert]] = {
        "corpus": (partial(_cells, names=("pid", "text")), _document),
        "queries": (partial(_cells, names=("qid", "text")), _query),
        "qrels": (_judged, partial(judgement, query="qid", document="pid", score="score")),
        "pairs": (partial(_cells, names=("query", "positive", "negative")), _pair),
        "negatives": (partial(_cells, names=("qid", "positive", "negative")), _negative),
    }
    parse, convert = ways[kind]
    return partial(read_rows, file, parse), convert


def _cells(line: bytes, names: tuple[str, ...]) -> Mapping[str, Any]:
    cells = decoded(line).rstrip("\r").split("\t")
    if len(cells) != len(names):
        raise RowError(
            "columns", f"expected {len(names)} cells with tabs between ({', '.join(names)}), got {len(cells)}"
        )
    return dict(zip(names, cells, strict=True))


def _judged(line: bytes) -> Mapping[str, Any]:
    cells = decoded(line).split()
    if len(cells) != 4:
        raise RowError(
            "qrels_columns", f"expected 4 cells (query id, 0, passage id, grade), got {len(cells)}"
        )
    return {"qid": cells[0], "pid": cells[2], "score": cells[3]}


def _document(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return string("pid", record.get("pid")), "", string("text", record.get("text")), None, None


def _query(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return string("qid", record.get("qid")), string("text", record.get("text"))


def _pair(record: Mapping[str, Any]) -> tuple[Any, ...]:
    query, positive, negative = (string(one, record.get(one)) for one in ("query", "positive", "negative"))
    return None, query, [(None, "", positive)], [(None, "", negative)]


def _negative(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return string("qid", record.get("qid")), string("negative", record.get("negative"))


MSMARCO = Format(
    name="msmarco",
    files="collection.tsv, queries.<split>.tsv, qrels.<split>.tsv, qidpidtriples.*; or triples.train.*.tsv",
    row="collection: 0⇥The presence of …; queries: 121352⇥define extreme; qrels: 1185869⇥0⇥0⇥1",
    recognised="by these names",
    becomes="corpus, queries and a split for every qrels file; triples of ids: negatives; of text: pairs",
    open=open_msmarco,
)
