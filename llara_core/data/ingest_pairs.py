"""Training pairs and adaptation rows on their way in: one row holds many texts, and stands or falls whole.

``pair_rows`` says which documents, queries, judgements and negatives a row adds. Issue 5, points 1 to 3.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from llara_core.data.ingest_keys import Keys, hashes
from llara_core.data.ingest_roles import Roles
from llara_core.data.ingest_rows import RowBatch
from llara_core.data.pair_rows import PairRows
from llara_core.data.raw import Raw, RowError, SourceFile
from llara_core.data.row_rules import blank

_Added = dict[str, list[tuple[Any, ...]]]  # table → rows that a batch adds to it, each with its line


class PairRoles:
    """Takes batches of pairs and of adaptation rows; documents and queries join those of ``roles``.

    Args:
        roles: the tables, and what was taken in before.
    """

    def __init__(self, roles: Roles) -> None:
        self.roles, self.rows = roles, PairRows()

    def pairs(self, file: SourceFile, raws: list[Raw], values: list[tuple[Any, ...]]) -> None:
        """Pairs: (query id | None, query, positives, negatives), passages as (id | None, title, text)."""
        batch = RowBatch(self.roles.log, file, raws)
        settings = self.roles.log.settings
        queries = batch.mend("query", batch.column("query", [row[1] for row in values]))
        batch.broken("query_text", blank(queries), lambda _row: "query without text; write one or remove it")
        batch.texts("query", queries, settings.longest_query)
        owner = np.asarray([row for row, entry in enumerate(values) for _ in (*entry[2], *entry[3])], np.intp)
        passages = [one for entry in values for one in (*entry[2], *entry[3])]
        titles = batch.mend("title", batch.column("title", [one[1] for one in passages], owner), owner)
        texts = batch.mend("passage", batch.column("passage", [one[2] for one in passages], owner), owner)
        for name, column in (("title", titles), ("passage", texts)):
            batch.texts(name, column, settings.longest_text, owner)
        empty = np.zeros(len(raws), np.bool_)
        empty[owner[blank(titles) & blank(texts)]] = True
        batch.broken("has_text", empty, lambda _row: "a passage has neither title nor text; remove it")
        mended = list(zip([one[0] for one in passages], titles.to_pylist(), texts.to_pylist(), strict=True))
        start = 0
        entries = []
        for query, (query_id, _, positives, negatives) in zip(queries.to_pylist(), values, strict=True):
            middle = start + len(positives)
            end = middle + len(negatives)
            entries.append((query_id, query, mended[start:middle], mended[middle:end]))
            start = end
        split = file.role.removeprefix("pairs/") or "train"
        self._add(batch, entries, split)

    def adaptation(self, file: SourceFile, raws: list[Raw], values: list[tuple[Any, ...]]) -> None:
        """Adaptation rows: (text, next_text); they are kept as rows, and their texts as documents."""
        batch = RowBatch(self.roles.log, file, raws)
        columns = []
        for place, name in enumerate(("text", "next_text")):
            column = batch.mend(name, batch.column(name, [row[place] for row in values]))
            batch.broken("has_text", blank(column), partial(_empty, name))
            batch.texts(name, column, self.roles.log.settings.longest_text)
            columns.append(column)
        self._add(batch, list(zip(*(column.to_pylist() for column in columns), strict=True)), None)
        self.roles.tables.write("rows", columns, ~batch.out)

    def _add(self, batch: RowBatch, entries: list[tuple[Any, ...]], split: str | None) -> None:
        added: _Added = {"corpus": [], "queries": [], "qrels": [], "negatives": []}
        repeated = 0
        for row, (raw, entry) in enumerate(zip(batch.raws, entries, strict=True)):
            if batch.out[row]:
                continue
            try:
                parts = self.rows.add_rows(entry) if split is None else self.rows.add(entry, split)
            except RowError as error:
                batch.aside(row, error.rule, f"{error}; mend or remove the row")
                continue
            repeated += split is not None and not any(parts)
            added["corpus"] += [(*one, raw.number) for one in parts.documents]
            added["queries"] += [(*one, raw.number) for one in parts.queries]
            added["qrels"] += [(*one, raw.number) for one in parts.judgements]
            added["negatives"] += parts.negatives
        batch.finish()
        if repeated:
            self.roles.log.counts.add(batch.file.role, batch.file.file, "repeated", repeated)
        self._write(added, batch, split)

    def _write(self, added: _Added, batch: RowBatch, split: str | None) -> None:
        tables, relevant = self.roles.tables, self.roles.relevant
        for table in ("corpus", "queries"):
            tables.write_rows(table, self._unknown(table, added[table], batch))
        if split is not None:
            tables.write_rows(f"qrels/{split}", added["qrels"])
            relevant[split] = relevant.get(split, 0) + len(added["qrels"])
        tables.write_rows("negatives", added["negatives"])

    def _unknown(self, table: str, rows: list[tuple[Any, ...]], batch: RowBatch) -> list[tuple[Any, ...]]:
        """Those that no other file of the source gave before, which have now been given."""
        if not rows:
            return rows
        keys = Keys.of([row[0] for row in rows])
        places = self.roles.places(batch.file, batch.raws[:1])[0] + np.arange(len(rows))
        contents = hashes([row[1:-1] for row in rows], len(rows))
        earlier, _ = self.roles.seen[table].add(keys, contents, places)
        return [row for row, place in zip(rows, earlier.tolist(), strict=True) if place < 0]


def _empty(name: str, _row: int) -> str:
    return f"{name!r} is empty; remove the row"
