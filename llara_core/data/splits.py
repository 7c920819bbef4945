"""Test queries out of training queries, where a collection comes with pairs and no split of its own.

What belongs together stays together: queries of the same text, and queries that share a relevant passage.
A split drawn row by row would give much of the test away in training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from llara_core.data.collection import Collection
from llara_core.errors import DataError


def hold_out_queries(
    collection: Collection, share: float, *, split: str = "train", into: str = "test", seed: int = 0
) -> Collection:
    """Move the judgements of a share of a split's queries into a new split.

    Queries that are the same but for case and white space, and queries that share a relevant passage, go
    together. Which go is decided by a hash of seed and query id, so more rows move few others.

    Args:
        collection: with judgements under ``split``.
        share: of the split's queries that move, about; never more.
        split: where they are now.
        into: the split that they make; must not exist.
        seed: another one draws another split.

    Returns:
        The collection with both splits; corpus and queries stay as they are.

    Raises:
        DataError: there is no such split, the new one exists, or no group of queries is small enough.
    """
    if not 0 < share < 1:
        raise DataError(f"the share held out must lie between 0 and 1, got {share}", rule="split_exists")
    if into in collection.qrels:
        raise DataError(
            f"collection {collection.name!r} has a split {into!r} already; nothing is held out",
            rule="split_exists",
        )
    ids, texts = collection.split_queries(split)
    judgements = collection.judgements(split)
    groups = _groups(ids, texts, judgements)
    wanted = int(share * len(ids))
    moved: set[str] = set()
    for group in sorted(groups, key=lambda one: _drawn(seed, min(one))):
        if len(moved) + len(group) <= wanted:
            moved.update(group)
    if not moved:
        raise DataError(
            f"no query of split {split!r} can be held out: {len(ids)} queries in {len(groups)} groups that "
            f"share a passage or a text, {wanted} wanted; hold out a greater share, or give a split by hand",
            rule="split_has_queries",
        )
    table = collection.qrels[split]
    leaving = pc.is_in(table["query_id"], value_set=pa.array(sorted(moved), pa.string()))
    qrels = {**collection.qrels, split: table.filter(pc.invert(leaving)), into: table.filter(leaving)}
    files = dict(collection.files)
    files[f"qrels/{into}"] = files.get(f"qrels/{split}", f"qrels/{split}")
    return replace(collection, qrels=qrels, files=files)


def _groups(
    ids: Sequence[str], texts: Sequence[str], judgements: Mapping[str, Mapping[str, int]]
) -> list[list[str]]:
    """Queries that must stay together."""
    leader = {one: one for one in ids}

    def find(one: str) -> str:
        while leader[one] != one:
            leader[one] = leader[leader[one]]
            one = leader[one]
        return one

    first: dict[tuple[str, str], str] = {}
    for query, text in zip(ids, texts, strict=True):
        keys = [("text", " ".join(text.lower().split()))]
        keys += [("document", one) for one, grade in judgements[query].items() if grade > 0]
        for key in keys:
            a, b = find(first.setdefault(key, query)), find(query)
            leader[max(a, b)] = min(a, b)
    groups: dict[str, list[str]] = {}
    for one in ids:
        groups.setdefault(find(one), []).append(one)
    return list(groups.values())


def _drawn(seed: int, query: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{query}".encode()).digest()
