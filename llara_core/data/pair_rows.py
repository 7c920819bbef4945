"""Pairs of queries and passages → documents, queries, judgements and negatives, each given once.

Training files repeat themselves: a passage is the positive of one query and the negative of fifty
others. Here every distinct text becomes one document, called by a hash of it unless the row gives an
id, so that the result does not depend on the order of rows or files. Both readings, strict
(``strict.strict_collection``) and with quarantine (``ingest``), assemble pairs by this module.
Issue 5, points 1 and 2.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llara_core.data.raw import RowError
from llara_core.data.records import Passage

_RECENT = 1 << 18  # hashes that stand in a Python set, 60 bytes each, before they are sorted in at 8 bytes


class Parts(NamedTuple):
    """What one row of pairs or of adaptation rows adds; texts and judgements given before are left out."""

    documents: list[tuple[str, str, str, None, None]]  # id, title, text, group, position
    queries: list[tuple[str, str]]  # id, text
    judgements: list[tuple[str, str, int]]  # query id, document id, grade
    negatives: list[tuple[str, str]]  # query id, document id


class PairRows:
    """Takes rows one by one and remembers what it has given, by hashes of 64 bits.

    Memory: about 8 bytes a distinct document, query, judgement and negative. Two different ones are taken
    for the same with a probability of n² / 2⁶⁵: 3e-6 among ten million.

    Usage: ``parts = rows.add(entry, split)`` for every row, and once all were read
    ``rows.without_positives(negatives)`` on every batch of negatives written.
    """

    def __init__(self) -> None:
        self._ids = _Seen()  # of documents and queries, apart by their kind
        self._contents = _Seen()  # (id, title, text)
        self._judged = _Seen()
        self._positives = _Seen()
        self._negatives = _Seen()
        self._withdrawn: set[tuple[str, str]] = set()  # given as negatives before they came as positives

    def add(self, entry: Sequence[Any], split: str = "train") -> Parts:
        """What a row of pairs adds.

        Args:
            entry: (query id | None, query, positives, negatives); passages are (id | None, title, text).
            split: the judgements' own: a pair judged in two splits stands in both.

        Raises:
            RowError: an id stands for another text already; nothing of the row was taken then.
        """
        query_id, query, positives, negatives = entry
        query_id = f"q-{_hex(query)}" if query_id is None else query_id
        added: dict[int, _Seen] = {}
        queries = [(query_id, query)] if self._new("query", query_id, (query,), added) else []
        documents, places = [], []
        for number, document in enumerate([*positives, *negatives]):
            made = self._document(document, added)
            places.append(made[0])
            if made[1] is not None:
                documents.append(made[1])
            if number < len(positives) and not made[0].strip():
                raise RowError("non_empty_ids", "a positive passage has an empty id; give it one")
        wanted, others = places[: len(positives)], places[len(positives) :]
        for key, seen in added.items():  # only now: a row that was refused leaves nothing behind
            seen.add(key)
        judgements = [
            (query_id, one, 1) for one in wanted if self._judged.add(_key(f"{split}\0{query_id}\0{one}"))
        ]
        return Parts(documents, queries, judgements, self._rejected(query_id, wanted, others))

    def add_rows(self, entry: Sequence[str]) -> Parts:
        """What an adaptation row (text, next text) adds: its two texts, as documents."""
        added: dict[int, _Seen] = {}
        made = [self._document((None, "", text), added)[1] for text in entry]
        for key, seen in added.items():
            seen.add(key)
        return Parts([one for one in made if one is not None], [], [], [])

    def without_positives(self, negatives: pa.Table) -> pa.Table:
        """Negatives without those that a later row gave as positives of the same query.

        Args:
            negatives: ``query_id`` and ``corpus_id`` of pairs given by ``add``; any part of them.
        """
        if not self._withdrawn:
            return negatives
        pairs = pc.binary_join_element_wise(negatives["query_id"], negatives["corpus_id"], "\0")
        gone = pa.array([f"{query}\0{document}" for query, document in sorted(self._withdrawn)], pa.string())
        return negatives.filter(pc.invert(pc.is_in(pairs, value_set=gone)))

    def _document(
        self, passage: Passage, added: dict[int, _Seen]
    ) -> tuple[str, tuple[str, str, str, None, None] | None]:
        """Its id, and the document where it was not given before."""
        given, title, text = passage
        name = f"p-{_hex(f'{title}{chr(0)}{text}' if title else text)}" if given is None else given
        new = self._new("document", name, (title, text), added)
        return name, (name, title, text, None, None) if new else None

    def _new(self, kind: str, name: str, content: Iterable[str], added: dict[int, _Seen]) -> bool:
        """Whether the id was not given before; it joins ``added`` then."""
        by_name = _key(f"{kind}\0{name}")
        by_content = _key("\0".join([kind, name, *content]))
        if by_content in added or by_content in self._contents:
            return False
        if by_name in added or by_name in self._ids:
            raise RowError(
                "unique_ids", f"{kind} id {name!r:.80} stands for another text in an earlier row; rename one"
            )
        added[by_name], added[by_content] = self._ids, self._contents
        return True

    def _rejected(self, query_id: str, wanted: list[str], others: list[str]) -> list[tuple[str, str]]:
        """The row's negatives that are new and no positives of the query."""
        for one in wanted:
            key = _key(f"{query_id}\0{one}")
            if key in self._negatives:
                self._withdrawn.add((query_id, one))
            self._positives.add(key)
        result = []
        for one in others:
            key = _key(f"{query_id}\0{one}")
            if key not in self._positives and self._negatives.add(key):
                result.append((query_id, one))
        return result


class _Seen:
    """A set of 64-bit numbers in 8 bytes each: the latest in a set, the rest sorted."""

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._sorted: array[int] = array("Q")

    def __contains__(self, key: int) -> bool:
        if key in self._recent:
            return True
        place = bisect_left(self._sorted, key)
        return place < len(self._sorted) and self._sorted[place] == key

    def add(self, key: int) -> bool:
        """Add a number; whether it is new."""
        if key in self:
            return False
        self._recent.add(key)
        if len(self._recent) >= max(_RECENT, len(self._sorted) // 8):
            recent = np.fromiter(self._recent, np.uint64, len(self._recent))
            merged = np.concatenate([np.frombuffer(self._sorted, np.uint64), recent])
            merged.sort(kind="stable")
            self._sorted = array("Q", merged.tobytes())
            self._recent = set()
        return True


def _key(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
