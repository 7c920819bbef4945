"""The texts behind an index: passages by row and by id, and what is known to answer a query.

Everything stays in the memory-mapped Arrow files of the collection. What grows in memory is 16 bytes for each
*judged query*, and nothing for a document.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llara_core.data.collection import Collection
from llara_core.data.lazy import ROWS_AT_A_TIME
from llara_core.errors import DataError
from llara_core.retrieval.hashes import passage_hashes

if TYPE_CHECKING:
    from llara_core.retrieval.index import Index

# Passages whose text is compared with the index when a corpus is opened. Ids are compared one and all; texts
# differ, if they do, because another version of the collection was given, and then many of them do.
_COMPARED = 256
# The split whose queries are shown as examples, the first that there is: what a model was not trained on.
_SHOWN_FIRST = ("test", "dev", "validation", "train")
_EXAMPLE_LENGTH = 120  # characters: longer queries do not fit on a button
_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")
_CANDIDATES = 20  # queries looked at for each example wanted, where many are too long


@dataclass(frozen=True)
class Passage:
    """A passage as it stands in the corpus: text of other people, to be shown and never to be run."""

    row: int
    id: str
    title: str
    text: str


class Corpus:
    """A collection as a service needs it.

    Threads may share one.

    Args:
        collection: corpus, queries and judgements; memory-mapped where it was loaded from a saved one.
        folder: that it was loaded from; None: it was read from other files.
    """

    def __init__(self, collection: Collection, folder: Path | None = None) -> None:
        self.collection, self.folder = collection, folder
        table = collection.corpus
        self._ids, self._titles, self._texts = table["_id"], table["title"], table["text"]
        self._hashes, self._query_rows = _judged_queries(collection)

    @classmethod
    def open(cls, folder: Path, index: Index | None = None) -> Corpus:
        """Open a saved collection, memory-mapped.

        Args:
            folder: written by ``Collection.save``.
            index: that holds the vectors of these passages; None: there is none to compare with.

        Raises:
            DataError: it is no saved collection, it is damaged, or the index holds other passages.
        """
        corpus = cls(Collection.load(folder), folder)
        if index is not None:
            corpus.check_index(index)
        return corpus

    def __len__(self) -> int:
        """Number of passages, N."""
        return int(self.collection.corpus.num_rows)

    @property
    def name(self) -> str:
        """Of the collection."""
        return self.collection.name

    @property
    def judged_queries(self) -> int:
        """Number of queries that have a judgement."""
        return len(self._hashes)

    @property
    def passages(self) -> Sequence[str]:
        """Title and text joined, by row; made when they are asked for."""
        return self.collection.passages

    def passage(self, row: int) -> Passage:
        """Id, title and text of a row of the index.

        Raises:
            IndexError: there is no such row.
        """
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of a corpus of {len(self)} passages")
        title, text = self._titles[row].as_py(), self._texts[row].as_py()
        return Passage(row, str(self._ids[row].as_py()), title or "", text or "")

    def row_of(self, document: str) -> int | None:
        """Row of the passage with this id; None: there is none.

        The column is scanned: a click may take milliseconds where a table of ten million ids would take a
        gigabyte.
        """
        value = _as_arrow(document)
        row = -1 if value is None else int(pc.index(self._ids, value).as_py())
        return None if row < 0 else row

    def grades(self, query: str) -> Mapping[str, int]:
        """Document id to grade for a judged query, up to white space and case; else empty.

        Splits are taken together; where they disagree, the highest grade counts.
        """
        found: dict[str, int] = {}
        for query_id in self._query_ids(query):
            for table in self.collection.qrels.values():
                mine = table.filter(pc.equal(table["query_id"], query_id))
                documents, scores = mine["corpus_id"].to_pylist(), mine["score"].to_pylist()
                for document, score in zip(documents, scores, strict=True):
                    found[document] = max(score, found.get(document, score))
        return found

    def examples(self, count: int) -> list[str]:
        """Up to ``count`` judged queries, spread over the collection, the same every time."""
        judged = self._shown_rows()
        places = np.linspace(0, len(judged) - 1, min(len(judged), count * _CANDIDATES)).astype(int)
        # Every twentieth first, then the ones between: examples from all over, also where many are too long.
        order = [place for start in range(_CANDIDATES) for place in places[start::_CANDIDATES]]
        chosen: dict[str, None] = {}
        texts = self.collection.queries["text"]
        for place in order:
            text = " ".join((texts[int(judged[place])].as_py() or "").split())
            if 0 < len(text) <= _EXAMPLE_LENGTH:
                chosen.setdefault(text)
            if len(chosen) == count:
                break
        return list(chosen)

    def check_index(self, index: Index) -> None:
        """Refuse an index whose rows are not the rows of this corpus.

        All ids are compared, and the texts of some hundred rows.

        Raises:
            DataError: number, ids or texts differ; says which row.
        """
        if len(index) != len(self):
            self._refuse(index, f"it has {len(index)} passages, the collection {len(self)}")
        for start in range(0, len(self), ROWS_AT_A_TIME):
            mine = self._ids.slice(start, ROWS_AT_A_TIME).to_pylist()
            theirs = index.ids_between(start, start + ROWS_AT_A_TIME)
            if mine != theirs:
                row = next(
                    row for row, pair in enumerate(zip(mine, theirs, strict=True)) if len(set(pair)) > 1
                )
                self._refuse(index, f"row {start + row} is {theirs[row]!r} there and {mine[row]!r} in it")
        rows = sorted({int(row) for row in np.linspace(0, len(self) - 1, min(len(self), _COMPARED))})
        hashes = passage_hashes(self.passages[row] for row in rows)
        for row, made in zip(rows, hashes, strict=True):
            if made.tobytes() != index.hash_of(row):
                self._refuse(index, f"the text of {self.passage(row).id!r} (row {row}) is another")

    def _refuse(self, index: Index, why: str) -> None:
        raise DataError(
            f"the index {index.folder} was not made of the collection {self.name!r}: {why}; give the "
            "collection that was indexed, or build the index again",
            rule="index_of_corpus",
        )

    def _query_ids(self, query: str) -> Iterator[str]:
        """Ids of the judged queries with this text; several may ask the same."""
        plain = _plain(query)
        key = _hash(plain)
        first, last = (int(np.searchsorted(self._hashes, key, side)) for side in _SIDES)
        for row in self._query_rows[first:last].tolist():
            if _plain(self.collection.queries["text"][row].as_py() or "") == plain:
                yield str(self.collection.queries["_id"][row].as_py())

    def _shown_rows(self) -> NDArray[np.int64]:
        """Rows of the queries of one split that have something to be found."""
        qrels = self.collection.qrels
        for split in (*_SHOWN_FIRST, *sorted(qrels)):
            if split in qrels:
                good = qrels[split].filter(pc.greater(qrels[split]["score"], 0))
                rows = _rows_of(self.collection, [good["query_id"]])
                if len(rows):
                    return rows
        return np.empty(0, np.int64)


def _judged_queries(collection: Collection) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of the plain texts of judged queries, sorted, and their rows in the table of queries."""
    rows = _rows_of(collection, [table["query_id"] for table in collection.qrels.values()])
    texts = collection.queries["text"]
    hashes = np.fromiter((_hash(_plain(texts[int(row)].as_py() or "")) for row in rows), np.uint64, len(rows))
    order = np.argsort(hashes, kind="stable")
    return hashes[order], rows[order]


def _rows_of(collection: Collection, judged: Sequence[pa.ChunkedArray]) -> NDArray[np.int64]:
    """Rows of the queries whose ids stand in any of the columns, ascending."""
    if not judged:
        return np.empty(0, np.int64)
    wanted = pa.chunked_array([chunk for column in judged for chunk in column.chunks], pa.string())
    known = pc.is_in(collection.queries["_id"], value_set=pc.unique(wanted))
    return np.flatnonzero(known.to_numpy(zero_copy_only=False)).astype(np.int64)


def _plain(text: str) -> str:
    """What makes two spellings of a query one: white space and case do not count."""
    return " ".join(text.casefold().split())


def _hash(text: str) -> np.uint64:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def _as_arrow(text: str) -> Any:
    """The text as Arrow compares it; None where it cannot stand in any file (half a surrogate pair)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return pa.scalar(text, pa.string())
