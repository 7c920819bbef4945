"""A retrieval collection as Arrow tables: corpus, queries and relevance judgements (qrels).

Every stage of the project takes and gives this one shape, whatever format it was read from.
On disk it is a folder of Arrow IPC files that are memory-mapped on load, so a step that hands
it to the next copies nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from llara_core.data.lazy import ROWS_AT_A_TIME, LazyTexts
from llara_core.errors import DataError

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
    """

    name: str
    corpus: pa.Table
    queries: pa.Table
    qrels: Mapping[str, pa.Table]
    files: Mapping[str, str] = field(default_factory=dict)
    unresolved_share: float = 0.0
    report: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def passages(self) -> Sequence[str]:
        """Title and text of every document joined by ``passage_text``, in corpus order.

        They stay in the Arrow table; a text is made when it is asked for.
        """
        return LazyTexts(self.corpus, ("title", "text"), _passage)

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
        return digest.hexdigest()

    def save(self, folder: Path) -> Path:
        """Write the collection as Arrow files; returns the folder."""
        (folder / "qrels").mkdir(parents=True, exist_ok=True)
        _write(self.corpus, folder / "corpus.arrow")
        _write(self.queries, folder / "queries.arrow")
        for split, table in self.qrels.items():
            _write(table, folder / "qrels" / f"{split}.arrow")
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
        (folder / "collection.json").write_text(json.dumps(facts, indent=1, sort_keys=True), encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: Path) -> Collection:
        """Open a folder written by ``save``; the tables are memory-mapped.

        Raises:
            DataError: the folder holds no saved collection.
        """
        facts_file = folder / "collection.json"
        if not facts_file.is_file():
            raise DataError("not a saved collection (collection.json is missing)", file=folder)
        facts = json.loads(facts_file.read_text(encoding="utf-8"))
        return cls(
            name=facts["name"],
            corpus=_read(folder / "corpus.arrow"),
            queries=_read(folder / "queries.arrow"),
            qrels={path.stem: _read(path) for path in sorted((folder / "qrels").glob("*.arrow"))},
            files=facts["files"],
            unresolved_share=facts["unresolved_share"],
            report=facts["report"],
        )


def _passage(title: str | None, text: str | None) -> str:
    return passage_text(title or "", text or "")


def _itself(value: str) -> str:
    return value


def _table_hash(table: pa.Table, columns: Sequence[str]) -> bytes:
    digests = bytearray()  # 32 bytes a row, where a list of bytes objects would take a hundred
    for batch in table.select(list(columns)).to_batches(max_chunksize=ROWS_AT_A_TIME):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            digests += hashlib.sha256(json.dumps(row, ensure_ascii=True).encode()).digest()
    # Hashes of rows are sorted rather than rows: the order of files and rows must not matter.
    rows = np.frombuffer(digests, "S32").copy()
    rows.sort()
    return hashlib.sha256(rows.tobytes()).digest()


def _write(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _read(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
