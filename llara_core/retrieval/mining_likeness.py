"""Texts that are the same, or nearly so: passages as strings and as word sets, read when they are needed."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llara_core.data.collection import Collection
from llara_core.retrieval.mining_sources import Rows
from llara_core.retrieval.words import jaccard, word_set

_WORD_SETS = 2048  # kept; some 10 KiB each


class Likeness:
    """How alike passages of a collection are.

    Args:
        collection: its corpus is read row by row, and only the rows that are asked for.
    """

    def __init__(self, collection: Collection) -> None:
        self._corpus = collection.corpus.select(["title", "text"])
        self._kept: OrderedDict[int, frozenset[str]] = OrderedDict()

    def texts(self, rows: Rows) -> list[str]:
        """Titles and texts of the rows joined as everywhere (``data.collection.passage_text``)."""
        texts: list[str] = self._joined(rows).to_pylist()
        return texts

    def codes(self, rows: Rows) -> Rows:
        """A number for each of the rows [P]; two rows of the same text get the same one."""
        encoded = self._joined(rows).dictionary_encode()
        return np.asarray(encoded.indices.to_numpy(), np.int64)

    def with_positives(
        self, query_of: Rows, rows: Rows, starts: Rows, positives: Rows
    ) -> NDArray[np.float64]:
        """Greatest word-set Jaccard of each passage [P] with a positive of its query.

        Args:
            query_of: place of the query of each passage [P], among those that ``starts`` counts.
            rows: corpus row of each passage [P].
            starts: where each query's rows begin in ``positives`` [B + 1].
            positives: corpus rows of the queries' positives, one query after the other.
        """
        asked = np.unique(query_of)
        rivals = [positives[starts[query] : starts[query + 1]] for query in asked]
        words = self._words(np.unique(np.concatenate([rows, *rivals])))
        sets = {
            query: [words[row] for row in some.tolist()] for query, some in zip(asked, rivals, strict=True)
        }
        return np.array(
            [
                max((jaccard(words[row], positive) for positive in sets[query]), default=0.0)
                for query, row in zip(query_of.tolist(), rows.tolist(), strict=True)
            ],
            np.float64,
        )

    def _joined(self, rows: Rows) -> pa.Array:
        taken = self._corpus.take(pa.array(rows))
        title, text = (pc.fill_null(_one(taken[name]), "") for name in ("title", "text"))
        joined = pc.utf8_trim_whitespace(pc.binary_join_element_wise(title, text, " "))
        return pc.if_else(pc.equal(title, ""), text, joined)

    def _words(self, rows: Rows) -> dict[int, frozenset[str]]:
        """Word sets by row; texts are read in one go, and the latest sets kept for the next block."""
        found = {row: self._kept[row] for row in rows.tolist() if row in self._kept}
        missing = np.array([row for row in rows.tolist() if row not in found], np.int64)
        for row, text in zip(missing.tolist(), self.texts(missing), strict=True):
            found[row] = self._kept[row] = word_set(text)
        for row in found:
            self._kept.move_to_end(row)
        while len(self._kept) > _WORD_SETS:
            self._kept.popitem(last=False)
        return found


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
