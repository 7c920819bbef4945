"""From judged rows to tables: what a document, a query, a judgement or a negative must be to come in.

Ids and references are looked up in hash tables of what was taken in before, so one reading is enough,
and the row that breaks a rule is still at hand to be kept. Issue 5, points 2 and 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llara_core.data.checks import GRADES
from llara_core.data.ingest_keys import Keys, SeenKeys, hashes
from llara_core.data.ingest_rows import RowBatch, RowLog
from llara_core.data.ingest_tables import TableWriters
from llara_core.data.raw import Raw, SourceFile
from llara_core.data.row_rules import blank

_ROW_BITS = 40  # a place is (number of the file << 40) | row
_ASIDE_NAMED = 100_000  # ids of rows put aside that are remembered, to say why a reference is broken
_TABLES = {"known_query": "queries", "known_document": "corpus"}


class Roles:
    """Takes batches of rows, file by file, into the tables.

    Args:
        log: where the fate of rows is written.
        tables: where those that are taken in go.
        unresolved_share: above 0, judgements of unknown queries and documents are kept and only marked.
    """

    def __init__(self, log: RowLog, tables: TableWriters, unresolved_share: float = 0.0) -> None:
        self.log, self.tables, self.unresolved_share = log, tables, unresolved_share
        self.seen = {"corpus": SeenKeys(), "queries": SeenKeys()}
        self.relevant: dict[str, int] = {}  # split → accepted judgements of known ones above grade 0
        self._texts = SeenKeys(slim=True)
        self._judged: dict[str, SeenKeys] = {}
        self._aside: dict[str, dict[str, str]] = {"corpus": {}, "queries": {}}
        self._files: list[str] = []

    def places(self, file: SourceFile, raws: Sequence[Raw]) -> NDArray[np.int64]:
        """Where rows stand, as one number each: ``[N]``."""
        if not self._files or self._files[-1] != file.file:
            self._files.append(file.file)
        base = (len(self._files) - 1) << _ROW_BITS
        return np.fromiter((raw.number for raw in raws), np.int64, len(raws)) + base

    def where(self, place: int, file: SourceFile) -> str:
        """A place in words, seen from a file."""
        name = self._files[place >> _ROW_BITS]
        row = f"row {place & ((1 << _ROW_BITS) - 1)}"
        return row if name == file.file else f"{row} of {name}"

    def corpus(self, file: SourceFile, raws: list[Raw], values: list[tuple[Any, ...]]) -> None:
        """Documents: (id, title, text, group, position)."""
        batch = RowBatch(self.log, file, raws)
        longest = self.log.settings.longest_text
        ids, titles, texts, groups, positions = (list(column) for column in zip(*values, strict=True))
        title_column = batch.mend("title", batch.column("title", titles))
        text_column = batch.mend("text", batch.column("text", texts))
        id_column = self._identified(batch, ids)
        for name, column in (("title", title_column), ("text", text_column)):
            batch.texts(name, column, longest)
        empty = blank(title_column) & blank(text_column)
        batch.broken("passage_text", empty, lambda _row: "document with neither title nor text; remove it")
        if self.log.settings.mojibake == "repair":
            titles, texts = title_column.to_pylist(), text_column.to_pylist()
        both = hashes(zip(titles, texts, strict=True), len(raws))
        contents = hashes(zip(both.tolist(), groups, positions, strict=True), len(raws))
        keep = self._new_ids(batch, "corpus", ids, contents)
        if self.log.settings.duplicate_texts:
            self._duplicates(batch, both, keep & ~empty)
        lines = [raw.number for raw in raws]
        group_column = pa.array(groups, pa.string())
        self._write(
            batch, "corpus", [id_column, title_column, text_column, group_column, positions, lines], keep
        )

    def queries(self, file: SourceFile, raws: list[Raw], values: list[tuple[Any, ...]]) -> None:
        """Queries: (id, text)."""
        batch = RowBatch(self.log, file, raws)
        ids, texts = (list(column) for column in zip(*values, strict=True))
        column = batch.mend("text", batch.column("text", texts))
        id_column = self._identified(batch, ids)
        batch.broken("query_text", blank(column), lambda _row: "query without text; write one or remove it")
        batch.texts("text", column, self.log.settings.longest_query)
        keep = self._new_ids(batch, "queries", ids, hashes(column.to_pylist(), len(raws)))
        self._write(batch, "queries", [id_column, column, [raw.number for raw in raws]], keep)

    def judgements(self, file: SourceFile, raws: list[Raw], values: list[tuple[Any, ...]]) -> None:
        """Judgements: (query id, document id, grade)."""
        batch = RowBatch(self.log, file, raws)
        queries, documents, grades = (list(column) for column in zip(*values, strict=True))
        query_column, document_column = (
            batch.column("query-id", queries),
            batch.column("corpus-id", documents),
        )
        scores = np.asarray(grades, np.int64)
        low, high = GRADES
        batch.broken(
            "grades_in_range",
            (scores < low) | (scores > high),
            lambda row: f"score {grades[row]} is outside {low} to {high}; correct it",
        )
        by_query, by_document = Keys.of(query_column.to_pylist()), Keys.of(document_column.to_pylist())
        unknown = self._referred(batch, "known_query", queries, by_query)
        unknown = unknown | self._referred(batch, "known_document", documents, by_document)
        split = file.role.removeprefix("qrels/")
        pairs = by_query.joined(by_document)
        judged = self._judged.setdefault(split, SeenKeys(slim=True))
        keep = ~batch.out
        earlier = self._earlier(judged, batch, Keys(pairs.first, pairs.first), pairs.first, keep)[0]
        batch.broken(
            "unique_judgements",
            earlier >= 0,
            lambda row: f"judged in {self.where(int(earlier[row]), file)} already; the last grade counts",
        )
        keep = ~batch.out
        relevant = int((keep & ~unknown & (scores > 0)).sum())
        self.relevant[split] = self.relevant.get(split, 0) + relevant
        lines = [raw.number for raw in raws]
        self._write(batch, file.role, [query_column, document_column, grades, lines], keep)

    def negatives(self, file: SourceFile, raws: list[Raw], values: list[tuple[Any, ...]]) -> None:
        """Negatives: (query id, document id)."""
        batch = RowBatch(self.log, file, raws)
        queries, documents = (list(column) for column in zip(*values, strict=True))
        columns = [batch.column("query_id", queries), batch.column("corpus_id", documents)]
        self._referred(batch, "known_query", queries, Keys.of(columns[0].to_pylist()))
        self._referred(batch, "known_document", documents, Keys.of(columns[1].to_pylist()))
        self._write(batch, "negatives", columns, ~batch.out)

    def _identified(self, batch: RowBatch, ids: list[str]) -> pa.StringArray:
        column = batch.column("_id", ids)
        batch.broken(
            "non_empty_ids", blank(column), lambda _row: "empty '_id'; give every row a name of its own"
        )
        batch.identifiers("_id", column)
        return column

    def _new_ids(
        self, batch: RowBatch, table: str, ids: list[str], contents: NDArray[np.uint64]
    ) -> NDArray[np.bool_]:
        """Which rows to write: taken in, and the first of their id (or all, where the rule only marks)."""
        keep = ~batch.out
        named = self._aside[table]
        for row in np.flatnonzero(batch.out).tolist():
            if len(named) < _ASIDE_NAMED:
                named.setdefault(ids[row], batch.rules[row])
        earlier, same = self._earlier(self.seen[table], batch, Keys.of(ids), contents, keep)
        again = earlier >= 0

        def reason(row: int) -> str:
            place = self.where(int(earlier[row]), batch.file)
            return (
                f"'_id' {ids[row]!r:.80} stands in {place} already, with another text; rename or remove one"
            )

        batch.broken("unique_ids", again & ~same, reason)
        repeated = again & same & ~batch.out
        if repeated.any():
            self.log.counts.add(batch.file.role, batch.file.file, "repeated", int(repeated.sum()))
        return ~batch.out & ~repeated

    def _duplicates(self, batch: RowBatch, both: NDArray[np.uint64], rows: NDArray[np.bool_]) -> None:
        earlier = self._earlier(self._texts, batch, Keys(both, both), both, rows)[0]
        if (earlier >= 0).any():
            batch.broken(
                "duplicate_text",
                earlier >= 0,
                lambda row: f"title and text stand in {self.where(int(earlier[row]), batch.file)} already",
            )

    def _earlier(
        self,
        seen: SeenKeys,
        batch: RowBatch,
        keys: Keys,
        contents: NDArray[np.uint64],
        rows: NDArray[np.bool_],
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Add some of the rows; the place of who came first (-1: the row itself), and whether it is equal."""
        earlier = np.full(len(rows), -1, np.int64)
        same = np.ones(len(rows), np.bool_)
        places = self.places(batch.file, batch.raws)
        earlier[rows], same[rows] = seen.add(keys.where(rows), contents[rows], places[rows])
        return earlier, same

    def _referred(self, batch: RowBatch, rule: str, ids: list[str], keys: Keys) -> NDArray[np.bool_]:
        """Which rows name an id that was not taken in."""
        table = _TABLES[rule]
        unknown: NDArray[np.bool_] = self.seen[table].places(keys) < 0
        batch.broken(rule, unknown, self._broken_reference(table, ids), mark=self.unresolved_share > 0)
        return unknown

    def _broken_reference(self, table: str, ids: list[str]) -> Callable[[int], str]:
        kind = "document" if table == "corpus" else "query"

        def reason(row: int) -> str:
            put_aside = self._aside[table].get(ids[row])
            if put_aside is not None:
                return f"{kind} {ids[row]!r:.80} was put aside itself [{put_aside}]; mend it there"
            return (
                f"{kind} {ids[row]!r:.80} is not in the {table}; add it, remove the row, or keep such rows "
                "by collection.unresolved_share"
            )

        return reason

    def _write(self, batch: RowBatch, table: str, columns: list[Any], keep: NDArray[np.bool_]) -> None:
        batch.finish()
        self.tables.write(table, columns, keep)
