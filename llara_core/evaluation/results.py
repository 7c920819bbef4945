"""What judging one system gave: its scores per query, their means, and what it found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from llara_core.errors import DataError
from llara_core.evaluation.metrics import PerQuery, means
from llara_core.files import new_file, new_folder

_FACTS, _SCORES, _RESULTS = "result.json", "per_query.arrow", "results.arrow"
RUN = "run.trec"
_QUERIES = 1_000  # queries whose results stand as Python objects at a time: bounds memory at depth 1,000
_RESULTS_SCHEMA = pa.schema(
    [
        ("query_id", pa.string()),
        ("rank", pa.int32()),  # from 1
        ("corpus_id", pa.string()),
        ("score", pa.float32()),
    ]
)
_WHITESPACE = str.maketrans(dict.fromkeys(" \t\r\n\v\f", "_"))


@dataclass(frozen=True)
class SystemResult:
    """One system on one split.

    Args:
        name: the system, e.g. ``bm25``.
        collection: name of the collection.
        split: the split judged.
        documents: size of the corpus.
        query_ids: Q ids, in the order of the queries file.
        per_query: metric to values in [0, 1], [Q] float64.
        found: per query the ids of its best documents, best first (all that were searched for).
        scores: their scores.
        protocol: how it was judged: self-match policy, relevance cut, depth and whatever else the caller
            recorded; JSON-able.
    """

    name: str
    collection: str
    split: str
    documents: int
    query_ids: Sequence[str]
    per_query: PerQuery
    found: Sequence[Sequence[str]]
    scores: Sequence[Sequence[float]]
    protocol: Mapping[str, Any] = field(default_factory=dict)

    @property
    def means(self) -> dict[str, float]:
        """Mean of each metric over the queries."""
        return means(self.per_query)

    def to_json(self) -> dict[str, float | int]:
        """The means of all metrics, ``queries`` and ``documents``."""
        return {**self.means, "queries": len(self.query_ids), "documents": self.documents}

    def top(self, place: int, k: int) -> list[tuple[str, float]]:
        """The first k documents and scores of the query at a place."""
        scores = [float(score) for score in self.scores[place][:k]]
        return list(zip(self.found[place][:k], scores, strict=True))

    def save(self, folder: Path, *, run: bool = False, extra: Mapping[str, Any] | None = None) -> Path:
        """Write ``result.json``, ``per_query.arrow`` and ``results.arrow``; returns the folder.

        Args:
            folder: made, or an earlier result that is replaced; whole or not at all.
            run: write ``run.trec`` too.
            extra: name of a JSON file to what it shall hold, e.g. ``mteb.json``.

        Raises:
            DataError: the folder cannot be written, or holds something else.
        """
        scores = pa.table({"query_id": pa.array(self.query_ids, pa.string()), **self.per_query})
        facts = {
            "name": self.name,
            "collection": self.collection,
            "split": self.split,
            **self.to_json(),
            "protocol": dict(self.protocol),
        }
        with new_folder(folder, replace=(_FACTS,)) as partial:
            _write([scores], scores.schema, partial / _SCORES)
            _write(self._tables(), _RESULTS_SCHEMA, partial / _RESULTS)
            if run:
                self._write_run(partial / RUN)
            for name, value in (extra or {}).items():
                (partial / name).write_text(json.dumps(value, indent=1), encoding="utf-8")
            (partial / _FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: Path) -> SystemResult:
        """Open a folder written by ``save``.

        Raises:
            DataError: the folder holds no saved result.
        """
        if not (folder / _FACTS).is_file():
            raise DataError(f"not a saved result ({_FACTS} is missing)", file=folder)
        facts: dict[str, Any] = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        table = _read(folder / _SCORES)
        query_ids: list[str] = table["query_id"].to_pylist()
        found: dict[str, list[str]] = {query: [] for query in query_ids}
        scores: dict[str, list[float]] = {query: [] for query in query_ids}
        for batch in _read(folder / _RESULTS).to_batches(max_chunksize=100 * _QUERIES):
            columns = (batch.column(name).to_pylist() for name in ("query_id", "corpus_id", "score"))
            for query, document, score in zip(*columns, strict=True):
                found[query].append(document)
                scores[query].append(score)
        return cls(
            name=facts["name"],
            collection=facts["collection"],
            split=facts["split"],
            documents=facts["documents"],
            query_ids=query_ids,
            per_query={
                metric: np.asarray(table[metric], np.float64)
                for metric in table.column_names
                if metric != "query_id"
            },
            found=list(found.values()),
            scores=list(scores.values()),
            protocol=facts.get("protocol", {}),
        )

    def write_trec_run(self, path: Path) -> Path:
        """Write the results as a TREC run: ``query Q0 document rank score system``; returns the path.

        trec_eval sorts by score and then by document id; the scores are written with nine significant
        digits, which keep a float32 exactly. White space in ids becomes ``_``, since the format has
        no quoting.

        Raises:
            DataError: the file cannot be written.
        """
        with new_file(path) as partial:
            self._write_run(partial)
        return path

    def _write_run(self, path: Path) -> None:
        tag = self.name.translate(_WHITESPACE)
        with path.open("w", encoding="utf-8", newline="\n") as stream:
            for query, found, scores in zip(self.query_ids, self.found, self.scores, strict=True):
                start = f"{query.translate(_WHITESPACE)} Q0 "
                stream.writelines(
                    f"{start}{document.translate(_WHITESPACE)} {rank} {score:.9g} {tag}\n"
                    for rank, (document, score) in enumerate(zip(found, scores, strict=True), start=1)
                )

    def _tables(self) -> Iterator[pa.Table]:
        """The results as rows, some queries at a time."""
        for start in range(0, len(self.query_ids), _QUERIES):
            place = slice(start, start + _QUERIES)
            found, scores = self.found[place], self.scores[place]
            counts = [len(documents) for documents in found]
            queries = np.repeat(np.arange(len(counts)), counts)
            ranks = [np.arange(1, count + 1, dtype=np.int32) for count in counts]
            yield pa.table(
                [
                    pa.array(self.query_ids[place], pa.string()).take(pa.array(queries)),
                    pa.array(np.concatenate([*ranks, np.zeros(0, np.int32)])),
                    pa.array(list(chain.from_iterable(found)), pa.string()),
                    pa.array(np.fromiter(chain.from_iterable(scores), np.float32, sum(counts))),
                ],
                schema=_RESULTS_SCHEMA,
            )


def select(result: SystemResult, chosen: NDArray[np.bool_]) -> PerQuery:
    """Return the per-query scores of the chosen queries, [Q] marks."""
    return {metric: values[chosen] for metric, values in result.per_query.items()}


def _write(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for table in tables:
            writer.write_table(table)


def _read(path: Path) -> pa.Table:
    with pa.OSFile(str(path), "rb") as source:
        return pa.ipc.open_file(source).read_all()
