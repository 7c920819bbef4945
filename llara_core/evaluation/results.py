"""What judging one system gave: its scores per query, their means, and what it found."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from llara_core.errors import DataError
from llara_core.evaluation.metrics import METRICS, PerQuery, means
from llara_core.files import new_file, new_folder

_FACTS, _SCORES, _RESULTS = "result.json", "per_query.arrow", "results.arrow"
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
    """

    name: str
    collection: str
    split: str
    documents: int
    query_ids: Sequence[str]
    per_query: PerQuery
    found: Sequence[Sequence[str]]
    scores: Sequence[Sequence[float]]

    @property
    def means(self) -> dict[str, float]:
        """Mean of each metric over the queries."""
        return means(self.per_query)

    def to_json(self) -> dict[str, float | int]:
        """What ``llara evaluate`` writes: the four means, ``queries`` and ``documents``."""
        return {**self.means, "queries": len(self.query_ids), "documents": self.documents}

    def top(self, place: int, k: int) -> list[tuple[str, float]]:
        """The first k documents and scores of the query at a place."""
        return list(zip(self.found[place][:k], self.scores[place][:k], strict=True))

    def save(self, folder: Path) -> Path:
        """Write ``result.json``, ``per_query.arrow`` and ``results.arrow``; returns the folder.

        Raises:
            DataError: the folder cannot be written, or holds something else.
        """
        scores = pa.table({"query_id": pa.array(self.query_ids, pa.string()), **self.per_query})
        rows = list(self._rows())
        columns = zip(*rows, strict=True) if rows else ([] for _ in _RESULTS_SCHEMA)
        results = pa.table(
            [
                pa.array(column, field.type)
                for column, field in zip(map(list, columns), _RESULTS_SCHEMA, strict=True)
            ],
            schema=_RESULTS_SCHEMA,
        )
        facts = {
            "name": self.name,
            "collection": self.collection,
            "split": self.split,
            **self.to_json(),
        }
        with new_folder(folder, replace=(_FACTS,)) as partial:
            _write(scores, partial / _SCORES)
            _write(results, partial / _RESULTS)
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
        table, results = _read(folder / _SCORES), _read(folder / _RESULTS)
        query_ids: list[str] = table["query_id"].to_pylist()
        place_of = {query: place for place, query in enumerate(query_ids)}
        found: list[list[str]] = [[] for _ in query_ids]
        scores: list[list[float]] = [[] for _ in query_ids]
        for query, document, score in zip(
            *(results[column].to_pylist() for column in ("query_id", "corpus_id", "score")), strict=True
        ):
            found[place_of[query]].append(document)
            scores[place_of[query]].append(score)
        return cls(
            name=facts["name"],
            collection=facts["collection"],
            split=facts["split"],
            documents=facts["documents"],
            query_ids=query_ids,
            per_query={metric: np.asarray(table[metric], np.float64) for metric in METRICS},
            found=found,
            scores=scores,
        )

    def write_trec_run(self, path: Path) -> Path:
        """Write the results as a TREC run: ``query Q0 document rank score system``; returns the path.

        trec_eval sorts by score and then by document id; the scores are written with nine significant
        digits, which keep a float32 exactly. White space in ids becomes ``_``, since the format has
        no quoting.

        Raises:
            DataError: the file cannot be written.
        """
        tag = self.name.translate(_WHITESPACE)
        lines = [
            f"{query.translate(_WHITESPACE)} Q0 {document.translate(_WHITESPACE)} {rank} {score:.9g} {tag}\n"
            for query, rank, document, score in self._rows()
        ]
        with new_file(path) as partial:
            partial.write_text("".join(lines), encoding="utf-8")
        return path

    def _rows(self) -> Iterator[tuple[str, int, str, float]]:
        for query, found, scores in zip(self.query_ids, self.found, self.scores, strict=True):
            for rank, (document, score) in enumerate(zip(found, scores, strict=True), start=1):
                yield query, rank, document, score


def select(result: SystemResult, chosen: NDArray[np.bool_]) -> PerQuery:
    """Return the per-query scores of the chosen queries, [Q] marks."""
    return {metric: values[chosen] for metric, values in result.per_query.items()}


def _write(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _read(path: Path) -> pa.Table:
    with pa.OSFile(str(path), "rb") as source:
        return pa.ipc.open_file(source).read_all()
