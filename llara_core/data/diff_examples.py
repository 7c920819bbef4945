"""Examples of changes: a few rows made into short strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llara_core.data.collection import passage_text

SHOWN = 200  # characters of a text
_LEAD = 40  # characters shown before the first difference
Rows = NDArray[np.int64]


class Examples:
    """The first rows of each kind of change.

    Args:
        a: the earlier table.
        b: the later one.
        text: its text columns, of which ``title`` may be one.
        place: columns that say where a row stands.
        count: most examples of a kind.
    """

    def __init__(
        self, a: pa.Table, b: pa.Table, text: Sequence[str], place: Sequence[str], count: int
    ) -> None:
        self._a, self._b, self._text, self._place, self._count = a, b, text, place, count

    def alone(self, table: pa.Table, rows: Rows) -> list[dict[str, Any]]:
        """Rows that one version lacks: ``_id`` (None where rows have none) and ``text``."""
        return [{"_id": row.get("_id"), "text": cut(self._read(row))} for row in self._rows(table, rows)]

    def renamed(self, before: Rows, after: Rows) -> list[dict[str, Any]]:
        """``before`` and ``after`` are ids; ``text`` is what both hold."""
        return [
            {"before": old["_id"], "after": new["_id"], "text": cut(self._read(new))}
            for old, new in self._both(before, after)
        ]

    def changed(self, before: Rows, after: Rows) -> list[dict[str, Any]]:
        """``_id``, and the text ``before`` and ``after``, each from shortly before the first difference."""
        result = []
        for old, new in self._both(before, after):
            texts = self._read(old), self._read(new)
            start = max(0, _alike(*texts) - _LEAD)
            start = 0 if start < _LEAD else start
            result.append({"_id": new["_id"], "before": cut(texts[0], start), "after": cut(texts[1], start)})
        return result

    def moved(self, before: Rows, after: Rows) -> list[dict[str, Any]]:
        """``_id``, and ``before`` and ``after`` with the columns that say where the row stands."""
        return [
            {
                "_id": new["_id"],
                "before": {name: old[name] for name in self._place},
                "after": {name: new[name] for name in self._place},
            }
            for old, new in self._both(before, after)
        ]

    def judged(self, table: pa.Table, rows: Rows) -> list[dict[str, Any]]:
        """Judgements that one version lacks: ``query_id``, ``corpus_id``, ``score`` (None of a negative)."""
        return [
            {name: row.get(name) for name in ("query_id", "corpus_id", "score")}
            for row in self._rows(table, rows)
        ]

    def judged_again(self, before: Rows, after: Rows) -> list[dict[str, Any]]:
        """``before`` and ``after``, each as ``judged`` has them."""
        olds, news = self.judged(self._a, before), self.judged(self._b, after)
        return [{"before": old, "after": new} for old, new in zip(olds, news, strict=True)]

    def _both(self, before: Rows, after: Rows) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        return list(zip(self._rows(self._a, before), self._rows(self._b, after), strict=True))

    def _rows(self, table: pa.Table, rows: Rows) -> list[dict[str, Any]]:
        # Row by row: `take` would first join the chunks of a mapped table, all texts at once.
        return [table.slice(row, 1).to_pylist()[0] for row in rows[: self._count].tolist()]

    def _read(self, row: dict[str, Any]) -> str:
        title = row["title"] or "" if "title" in self._text else ""
        return passage_text(title, row["text"] or "")


def _alike(first: str, second: str) -> int:
    """Number of characters up to the first difference."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))


def cut(text: str, start: int = 0) -> str:
    """At most 200 characters of a text from a place on, with ``…`` where something is left out."""
    end = start + SHOWN
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")
