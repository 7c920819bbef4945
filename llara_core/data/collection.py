"""A retrieval collection as Arrow tables: corpus, queries and relevance judgements (qrels).

Every stage of the project takes and gives this one shape, whatever format it was read from.
On disk it is a folder of Arrow IPC files that are memory-mapped on load, so a step that hands
it to the next copies nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from llara_core.data.lazy import ROWS_AT_A_TIME, LazyTexts
from llara_core.errors import DataError

_ROWS_A_BATCH = 16_384  # what a part of a corpus is read by, where it lies in a bucket
FACTS = "collection.json"  # beside the tables of a saved collection
CORPUS_SCHEMA = pa.schema(
    [
        ("_id", pa.string()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("group", pa.string()),  # documents of one group follow each other (a module, an article)
        ("position", pa.int32()),  # place within the group
        ("line", pa.int32()),  # 1-based line in the source file, for messages
    ]
)
QUERIES_SCHEMA = pa.schema([("_id", pa.string()), ("text", pa.string()), ("line", pa.int32())])
QRELS_SCHEMA = pa.schema(
    [("query_id", pa.string()), ("corpus_id", pa.string()), ("score", pa.int32()), ("line", pa.int32())]
)

NEGATIVES_SCHEMA = pa.schema([("query_id", pa.string()), ("corpus_id", pa.string())])


def passage_text(title: str, text: str) -> str:
    """The one string that stands for a passage everywhere: BM25, encoding, mining and serving.

    Source: BEIR joins title and text with one space; an empty title adds nothing.
    """
    return f"{title} {text}".strip() if title else text


@dataclass(frozen=True)
class Collection:
    """Corpus, queries and qrels, with the files they came from.

    Args:
        name: short name used in metric keys, e.g. ``pycode``.
        corpus: table of ``CORPUS_SCHEMA``.
        queries: table of ``QUERIES_SCHEMA``, of all splits together.
        qrels: split name to table of ``QRELS_SCHEMA``.
        files: ``corpus``, ``queries`` and ``qrels/<split>`` to the file read, for messages.
        unresolved_share: share of judgements that may name unknown queries or documents (``quality``).
        report: what the reader wants to say (counts, what was left out); JSON-able.
        negatives: table of ``NEGATIVES_SCHEMA``: documents that a training file names as negatives.
        rows: table of ``passages.ROWS_SCHEMA``: adaptation rows made by somebody else.
    """

    name: str
    corpus: pa.Table
    queries: pa.Table
    qrels: Mapping[str, pa.Table]
    files: Mapping[str, str] = field(default_factory=dict)
    unresolved_share: float = 0.0
    report: Mapping[str, Any] = field(default_factory=dict)
    negatives: pa.Table | None = None
    rows: pa.Table | None = None

    @cached_property
    def passages(self) -> Sequence[str]:
        """Title and text of every document joined by ``passage_text``, in corpus order.

        They stay in the Arrow table; a text is made when it is asked for.
        """
        return passages_of(self.corpus)

    @cached_property
    def corpus_ids(self) -> Sequence[str]:
        """Document ids in corpus order; they stay in the Arrow table."""
        return LazyTexts(self.corpus, ("_id",), _itself)

    def split_queries(self, split: str) -> tuple[list[str], list[str]]:
        """Ids and texts of the queries that a split judges, in the order of the queries file.

        Raises:
            DataError: the split does not exist, or judges no known query.
        """
        judged = self._split(split)["query_id"]
        kept = self.queries.filter(pc.is_in(self.queries["_id"], value_set=pc.unique(judged)))
        if not kept.num_rows:
            raise DataError(
                f"split {split!r} of collection {self.name!r} judges no query that the queries file has; "
                "add queries, or choose another split",
                rule="split_has_queries",
            )
        return kept["_id"].to_pylist(), kept["text"].to_pylist()

    def judgements(self, split: str) -> dict[str, dict[str, int]]:
        """Query id to {document id: grade} of a split."""
        table = self._split(split)
        result: dict[str, dict[str, int]] = {}
        columns = (table[name].to_pylist() for name in ("query_id", "corpus_id", "score"))
        for query, document, grade in zip(*columns, strict=True):
            result.setdefault(query, {})[document] = grade
        return result

    def _split(self, split: str) -> pa.Table:
        if split not in self.qrels:
            have = ", ".join(sorted(self.qrels)) or "none"
            raise DataError(
                f"collection {self.name!r} has no split {split!r} (it has: {have}); add qrels/{split}.tsv",
                rule="split_exists",
            )
        return self.qrels[split]

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over the content, the same for any order of rows and for any file format."""
        digest = hashlib.sha256()
        digest.update(_table_hash(self.corpus, ["_id", "title", "text", "group", "position"]))
        digest.update(_table_hash(self.queries, ["_id", "text"]))
        for split in sorted(self.qrels):
            digest.update(split.encode())
            digest.update(_table_hash(self.qrels[split], ["query_id", "corpus_id", "score"]))
        if self.negatives is not None and self.negatives.num_rows:
            digest.update(b"negatives")
            digest.update(_table_hash(self.negatives, ["query_id", "corpus_id"]))
        if self.rows is not None:
            digest.update(b"rows")
            digest.update(_table_hash(self.rows, ["text", "next_text"]))
        return digest.hexdigest()

    def save(self, folder: Path) -> Path:
        """Write the collection as Arrow files; returns the folder."""
        (folder / "qrels").mkdir(parents=True, exist_ok=True)
        _write(self.corpus, folder / "corpus.arrow")
        _write(self.queries, folder / "queries.arrow")
        for split, table in self.qrels.items():
            _write(table, folder / "qrels" / f"{split}.arrow")
        if self.negatives is not None:
            _write(self.negatives, folder / "negatives.arrow")
        if self.rows is not None:
            _write(self.rows, folder / "rows.arrow")
        return self.seal(folder)

    def seal(self, folder: Path) -> Path:
        """Write ``collection.json`` beside tables that are in the folder already; returns the folder."""
        facts = {
            "name": self.name,
            "content_hash": self.content_hash,
            "documents": self.corpus.num_rows,
            "queries": self.queries.num_rows,
            "judgements": {split: table.num_rows for split, table in sorted(self.qrels.items())},
            "files": dict(self.files),
            "unresolved_share": self.unresolved_share,
            "report": dict(self.report),
        }
        (folder / FACTS).write_text(json.dumps(facts, indent=1, sort_keys=True), encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: Path) -> Collection:
        """Open a folder written by ``save``; the tables are memory-mapped.

        Raises:
            DataError: the folder holds no saved collection, or a damaged one (``readable``).
        """
        facts_file = folder / FACTS
        if not facts_file.is_file():
            raise DataError("not a saved collection (collection.json is missing)", file=folder)
        try:
            facts = json.loads(facts_file.read_text(encoding="utf-8"))
            return replace(
                cls.load_tables(folder, facts["name"]),
                files=facts["files"],
                unresolved_share=facts["unresolved_share"],
                report=facts["report"],
            )
        except (KeyError, TypeError, ValueError, RecursionError, OSError, pa.ArrowException) as error:
            raise DataError(
                f"damaged: the saved collection cannot be opened ({type(error).__name__}: {error}); "
                "save it anew",
                file=folder,
                rule="readable",
            ) from None

    @classmethod
    def load_tables(cls, folder: Path, name: str) -> Collection:
        """Open the tables of a folder alone, memory-mapped, whether ``collection.json`` is there or not."""
        negatives, rows = folder / "negatives.arrow", folder / "rows.arrow"
        return cls(
            name=name,
            corpus=_read(folder / "corpus.arrow"),
            queries=_read(folder / "queries.arrow"),
            qrels={path.stem: _read(path) for path in sorted((folder / "qrels").glob("*.arrow"))},
            negatives=_read(negatives) if negatives.is_file() else None,
            rows=_read(rows) if rows.is_file() else None,
        )


def passages_of(corpus: pa.Table) -> Sequence[str]:
    """Title and text of every row of a corpus, or of a part of one, joined by ``passage_text``."""
    return LazyTexts(corpus, ("title", "text"), _passage)


def _passage(title: str | None, text: str | None) -> str:
    return passage_text(title or "", text or "")


def _itself(value: str) -> str:
    return value


def _table_hash(table: pa.Table, columns: Sequence[str]) -> bytes:
    digests = bytearray()  # 32 bytes a row, where a list of bytes objects would take a hundred
    for batch in table.select(list(columns)).to_batches(max_chunksize=ROWS_AT_A_TIME):
        parts = [_as_json(column) for column in batch.columns]
        for row in zip(*parts, strict=True):
            digests += hashlib.sha256(f"[{', '.join(row)}]".encode()).digest()
    # Hashes of rows are sorted rather than rows: the order of files and rows must not matter.
    np.frombuffer(digests, "S32").sort()  # in place: at ten million rows a copy is 320 MB
    return hashlib.sha256(digests).digest()


def _as_json(column: pa.Array) -> list[str]:
    """The values as ``json.dumps`` writes them; several times as fast as one call a row."""
    if pa.types.is_string(column.type):
        return ["null" if value is None else encode_basestring_ascii(value) for value in column.to_pylist()]
    return ["null" if value is None else repr(value) for value in column.to_pylist()]


def _write(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=_ROWS_A_BATCH)


def _read(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
