"""The hash table against a dictionary."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from llara_core.data.ingest_keys import Keys, SeenKeys, earlier_rows


@pytest.mark.parametrize("slim", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_against_a_dictionary(seed, slim):
    chance = random.Random(seed)
    table, known, place = SeenKeys(capacity=4, slim=slim), {}, 0
    for _ in range(40):
        ids = [f"d{chance.randrange(400)}" for _ in range(chance.randrange(60))]
        contents = np.array([chance.randrange(2) for _ in ids], np.uint64)
        keys = Keys.of(ids)
        if slim:
            keys, contents = Keys(keys.first, keys.first), keys.first
        earlier, same = table.add(keys, contents, np.arange(place, place + len(ids)))
        for row, (name, content) in enumerate(zip(ids, contents.tolist(), strict=True)):
            if name in known:
                assert (earlier[row], same[row]) == (known[name][0], known[name][1] == content)
            else:
                known[name] = (place + row, content)
                assert (earlier[row], same[row]) == (-1, True)
        place += len(ids)
    assert len(table) == len(known)
    if not slim:
        asked = [f"d{row}" for row in range(500)]
        expected = [known.get(name, (-1,))[0] for name in asked]
        assert table.places(Keys.of(asked)).tolist() == expected


def test_keys_that_share_their_first_half_are_told_apart():
    first = np.zeros(5, np.uint64)
    keys = Keys(first, np.array([1, 2, 1, 3, 0], np.uint64))
    table = SeenKeys(capacity=8)
    earlier, _ = table.add(keys, first, np.arange(5))
    assert earlier.tolist() == [-1, -1, 0, -1, -1]


def test_joined_keys_know_the_order():
    one, two = Keys.of(["a", "b"]), Keys.of(["b", "a"])
    joined = one.joined(two)
    assert joined.first[0] != joined.first[1] and joined.second[0] != joined.second[1]


def test_earlier_rows(monkeypatch):
    monkeypatch.setattr("llara_core.data.ingest_keys._AT_ONCE", 2)
    one = pa.chunked_array([["a", "b", "a"], ["a", "b"]], pa.string())
    two = pa.chunked_array([["x", "x", "y", "x", "y"]], pa.string())
    assert earlier_rows(one).tolist() == [-1, -1, 0, 0, 1]
    assert earlier_rows(one, two).tolist() == [-1, -1, -1, 0, -1]
    assert earlier_rows(one.slice(0, 0)).tolist() == []
