"""Passages and ids that stay in Arrow behave as the lists that they were."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from llara_core.data import lazy
from llara_core.data.collection import (
    CORPUS_SCHEMA,
    QRELS_SCHEMA,
    QUERIES_SCHEMA,
    Collection,
    _table_hash,
    passage_text,
)

ROWS = [
    {
        "_id": f"d{number}",
        "title": ["", "T", None][number % 3],
        "text": [f"text {number}", None, ""][number % 5 % 3],
    }
    for number in range(23)
]
WANTED = [passage_text(row["title"] or "", row["text"] or "") for row in ROWS]


@pytest.fixture(params=["one chunk", "many chunks", "mapped"])
def collection(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Collection:
    monkeypatch.setattr(lazy, "ROWS_AT_A_TIME", 4)
    monkeypatch.setattr("llara_core.data.collection.ROWS_AT_A_TIME", 4)
    corpus = pa.Table.from_pylist(ROWS, CORPUS_SCHEMA)
    if request.param == "many chunks":
        corpus = pa.concat_tables(
            [corpus.slice(0, 5), corpus.slice(5, 0), corpus.slice(5, 1), corpus.slice(6)]
        )
    empty = QUERIES_SCHEMA.empty_table()
    whole = Collection("c", corpus, empty, {"test": QRELS_SCHEMA.empty_table()})
    return Collection.load(whole.save(tmp_path / "c")) if request.param == "mapped" else whole


def test_passages_are_as_their_list(collection: Collection) -> None:
    passages = collection.passages
    assert list(passages) == WANTED and passages == WANTED and len(passages) == 23
    assert [passages[row] for row in range(23)] == WANTED
    assert [passages[row] for row in range(-23, 0)] == WANTED
    assert passages[np.int64(3)] == WANTED[3]
    for cut in (
        slice(None),
        slice(2, 9),
        slice(-3, None),
        slice(9, 2),
        slice(None, None, -1),
        slice(1, 20, 6),
    ):
        assert passages[cut] == WANTED[cut] and isinstance(passages[cut], list)
    for row in (23, -24):
        with pytest.raises(IndexError):
            passages[row]
    assert "text 0" in passages and "nothing" not in passages
    assert passages.index(WANTED[5]) == WANTED.index(WANTED[5]) and passages.count("") == WANTED.count("")
    assert list(reversed(passages)) == WANTED[::-1]
    assert collection.corpus_ids == [row["_id"] for row in ROWS]
    assert "23 texts" in repr(passages)


def test_equal_to_sequences_of_the_same_strings_only(collection: Collection) -> None:
    passages = collection.passages
    assert passages == tuple(WANTED) and passages == collection.passages
    assert passages != WANTED[:-1] and passages != [*WANTED[:-1], "other"] and passages != "text"
    with pytest.raises(TypeError):
        hash(passages)


def test_an_empty_corpus() -> None:
    empty = Collection("c", CORPUS_SCHEMA.empty_table(), QUERIES_SCHEMA.empty_table(), {})
    assert list(empty.passages) == [] == empty.passages and not empty.passages
    assert empty.content_hash == Collection("d", empty.corpus, empty.queries, {}).content_hash


def test_the_hash_is_that_of_sorted_rows(collection: Collection) -> None:
    columns = ["_id", "title", "text", "group", "position"]
    rows = [[row.get(name) for name in columns] for row in ROWS]
    digests = sorted(hashlib.sha256(json.dumps(row).encode()).digest() for row in rows)
    assert _table_hash(collection.corpus, columns) == hashlib.sha256(b"".join(digests)).digest()


def test_digests_sort_as_bytes() -> None:
    # numpy's strings end at their last NUL when compared with others; that must not change their order.
    random = np.random.default_rng(0)
    rows = [bytes(row) for row in random.integers(0, 2, (500, 32), np.uint8) * 255]
    array = np.frombuffer(b"".join(rows), "S32").copy()
    array.sort()
    assert array.tobytes() == b"".join(sorted(rows))
