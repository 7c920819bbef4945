"""Long documents of a collection → passages, judgements with them; flat in memory. Issue 5, point 6."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from llara_core.data.collection import CORPUS_SCHEMA, QRELS_SCHEMA, Collection, passage_text
from llara_core.data.lazy import ROWS_AT_A_TIME
from llara_core.data.passages_rows import write_batches
from llara_core.data.passages_split import Splitter
from llara_core.data_settings import PassageSettings
from llara_core.errors import DataError
from llara_core.progress import Progress

_NUMBERED = re.compile(r"(.*)#\d+\Z", re.DOTALL)

Row = tuple[str, str, str, "str | None", "int | None", "int | None"]


def split_corpus(
    collection: Collection, settings: PassageSettings, tokenizer: Any = None, *, file: Path | None = None
) -> Collection:
    """Cut the documents that are longer than a passage; all others stay as they are.

    - A long document ``d`` becomes ``d#0``, ``d#1``, … with its title, group ``d`` and positions 0, 1, …,
      so that adaptation knows what follows what. (It leaves the group that it was in.)
    - A title that would take more than half of a passage is put before the text instead.
    - A judgement of ``d`` becomes one of each of its passages, with the same grade: which of them answers
      the query is not known. So a query has more relevant passages than it had documents, and scores over
      passages do not compare with scores over documents.

    Documents are read, cut and written some thousands at a time; of the corpus only the numbers of passages
    of judged documents are kept.

    Args:
        collection: what to cut.
        settings: how long passages are.
        tokenizer: what counts tokens; see ``split_passages``. It should be the model's.
        file: write the new corpus there (Arrow) and map it; None keeps it in memory.

    Returns:
        The collection of passages; ``report["passages"]`` says how many documents were cut.

    Raises:
        ConfigError: see ``split_passages``.
        DataError: a document is named like a passage of another, or ``file`` cannot be written.
    """
    splitter = _CorpusSplitter(splitter=Splitter(settings, tokenizer), collection=collection)
    if file is None:
        corpus = pa.Table.from_batches(list(splitter.batches()), schema=CORPUS_SCHEMA)
    else:
        write_batches(splitter.batches(), CORPUS_SCHEMA, file)
        corpus = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    counts = splitter.counts
    facts = {"settings": settings.model_dump(mode="json"), **counts, "passages": corpus.num_rows}
    return replace(
        collection,
        corpus=corpus,
        qrels={split: _remapped(table, splitter.parts) for split, table in collection.qrels.items()},
        report={**collection.report, "passages": facts},
    )


class _CorpusSplitter:
    """The corpus, some thousands of documents at a time, and what was learnt on the way."""

    def __init__(self, splitter: Splitter, collection: Collection) -> None:
        self._splitter, self._collection = splitter, collection
        self._judged = {
            one
            for table in collection.qrels.values()
            for chunk in table["corpus_id"].chunks
            for one in chunk.unique().to_pylist()
        }
        self._numbered = self._numbered_ids()
        self.parts: dict[str, int] = {}  # judged documents that were cut → their passages
        self.counts: Counter[str] = Counter(documents=collection.corpus.num_rows, documents_cut=0)

    def batches(self) -> Iterator[pa.RecordBatch]:
        corpus = self._collection.corpus.select(CORPUS_SCHEMA.names)
        with Progress("passages", corpus.num_rows, "documents") as bar:
            for batch in corpus.to_batches(max_chunksize=ROWS_AT_A_TIME):
                rows = list(zip(*(column.to_pylist() for column in batch.columns), strict=True))
                columns = list(zip(*self._cut(rows), strict=True))
                yield pa.record_batch([list(column) for column in columns], schema=CORPUS_SCHEMA)
                bar.update(batch.num_rows)

    def _cut(self, rows: Sequence[Row]) -> Iterator[Row]:
        titles, texts = self._under_titles(rows)
        for row, title, passages in zip(rows, titles, self._splitter.split(texts, titles), strict=True):
            if len(passages) < 2:
                yield row
                continue
            name, line = row[0], row[5]
            if name in self._numbered:
                raise DataError(
                    f"documents {name!r} and {name + '#…'!r} both exist, but the passages of the first would "
                    "be named like the second; rename one of them",
                    file=self._collection.files.get("corpus"),
                    row=line,
                    rule="unique_ids",
                )
            if name in self._judged:
                self.parts[name] = len(passages)
            self.counts["documents_cut"] += 1
            for number, passage in enumerate(passages):
                yield f"{name}#{number}", title, passage.text, name, number, line

    def _under_titles(self, rows: Sequence[Row]) -> tuple[list[str], list[str]]:
        """Titles and texts; a title too long to stand before every passage becomes text."""
        titles = [row[1] or "" for row in rows]
        texts = [row[2] or "" for row in rows]
        costs = self._splitter.counter.counts(titles)
        for place, cost in enumerate(costs):
            if not self._splitter.leaves_room(cost):
                titles[place], texts[place] = "", passage_text(titles[place], texts[place])
        return titles, texts

    def _numbered_ids(self) -> set[str]:
        """What stands before ``#`` and a number at the end of ids: passages of these may find it taken."""
        found = set()
        for batch in self._collection.corpus.select(["_id"]).to_batches(max_chunksize=ROWS_AT_A_TIME):
            for name in batch.column(0).to_pylist():
                if "#" in name and (match := _NUMBERED.match(name)):
                    found.add(match[1])
        return found


def _remapped(table: pa.Table, parts: Mapping[str, int]) -> pa.Table:
    """Judgements of passages instead of documents that were cut."""
    batches = []
    for batch in table.select(QRELS_SCHEMA.names).to_batches(max_chunksize=ROWS_AT_A_TIME):
        columns: list[list[Any]] = [[], [], [], []]
        for query, document, grade, line in zip(*(one.to_pylist() for one in batch.columns), strict=True):
            count = parts.get(document)
            names = [document] if count is None else [f"{document}#{number}" for number in range(count)]
            for column, values in zip(
                columns, ([query] * len(names), names, [grade] * len(names), [line] * len(names)), strict=True
            ):
                column.extend(values)
        batches.append(pa.record_batch(columns, schema=QRELS_SCHEMA))
    return pa.Table.from_batches(batches, schema=QRELS_SCHEMA)
