from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from llara_core.errors import ConfigError
from steps.expectation_facts import (
    COUNTED_ROWS,
    Facts,
    Gatherer,
    Lengths,
    estimated_tokens,
    hashed,
    is_among,
    repeated,
)

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def chunked(values: list, sizes: tuple[int, ...] = (3, 1, 0, 4)) -> pa.ChunkedArray:
    parts, at = [], 0
    for size in sizes:
        parts.append(pa.array(values[at : at + size], pa.string()))
        at += size
    return pa.chunked_array([*parts, pa.array(values[at:], pa.string())])


@pytest.mark.parametrize("seed", range(5))
def test_repeated_and_references_as_a_slow_oracle_says(seed: int) -> None:
    draw = random.Random(seed)
    words = ["", "a", "b", "ab", "é", None, *(f"w{number}" for number in range(20))]
    first = [draw.choice(words) for _ in range(60)]
    second = [draw.choice(words[:8]) for _ in range(60)]
    count = Counter(zip(first, second, strict=True))
    expected = [count[pair] > 1 for pair in zip(first, second, strict=True)]
    assert repeated([chunked(first), chunked(second)]).tolist() == expected
    single = Counter(first)
    assert repeated([chunked(first)]).tolist() == [single[one] > 1 for one in first]
    known = set(second) - {None}
    assert is_among(chunked(first), chunked(second)).tolist() == [one in known for one in first]


def test_pairs_that_share_only_their_letters_differ() -> None:
    assert not repeated([chunked(["a", "b", "ab", ""]), chunked(["b", "a", "", "ab"])]).any()


def test_equal_hashes_are_compared_as_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steps.expectation_facts.hashed", lambda column: np.zeros(len(column), np.uint64))
    assert repeated([chunked(["a", "b", "a", "c"])]).tolist() == [True, False, True, False]


def test_hashes_depend_on_the_value_and_not_on_the_chunk() -> None:
    values = ["x", "y", "x", None, "", "x"]
    hashes = hashed(chunked(values))
    assert hashes[0] == hashes[2] == hashes[5]
    assert len({int(one) for one in hashes}) == 4
    assert hashes.tolist() == hashed(pa.chunked_array([values])).tolist()


def test_texts_of_rows_across_chunks() -> None:
    values = ["a", "bb", None, "dddd", "e", "ff"]
    texts = Gatherer(chunked(values, (2, 0, 3)))
    assert texts.take(np.array([5, 0, 2, -1, 0, 3])).to_pylist() == ["ff", "a", None, None, "a", "dddd"]
    assert texts.take(np.array([], np.int64)).to_pylist() == []
    assert texts.sizes.tolist() == [1, 2, 0, 4, 1, 2]


def test_tokens_are_estimated_by_hand() -> None:
    # "mining" is 2 pieces of at most 5 letters, "2024" 4 digits, "." one sign, Chinese one a character.
    assert estimated_tokens(pa.array(["mining 2024.", "机器学习", "", None])).tolist() == [7, 4, 0, 0]


def test_the_estimate_is_near_the_tokenizer() -> None:
    if not (SHARED / "scifact" / "corpus.jsonl").is_file():
        pytest.skip("needs ../shared/data with SciFact and the LLaMA 2 tokenizer")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHARED / "llara_golden" / "model")
    with (SHARED / "scifact" / "corpus.jsonl").open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line, _ in zip(lines, range(300), strict=False)]
    counted = np.array([len(one) for one in tokenizer(texts, add_special_tokens=False)["input_ids"]])
    estimate = estimated_tokens(pa.array(texts))
    assert abs(estimate.sum() / counted.sum() - 1) < 0.1
    assert np.mean(np.abs(estimate / counted - 1)) < 0.15


def test_the_runs_tokenizer_counts_where_the_table_is_small_enough() -> None:
    lengths = Lengths(10, 5, count=lambda texts: [100 + len(text) for text in texts])
    small = pa.table({"_id": ["a", "b"]})
    large = pa.table({"_id": pa.nulls(COUNTED_ROWS + 1, pa.string())})
    texts = pa.array(["xy", None])
    assert Facts(small, {}, lengths).tokens(texts).tolist() == [102, 100]
    assert Facts(large, {}, lengths).tokens(texts).tolist() == [1, 0]
    assert Facts(small, {}).tokens(texts).tolist() == [1, 0]
    assert lengths.parameters == {"passage_length": 10, "query_length": 5}


def test_unknown_tables_and_columns_are_named() -> None:
    facts = Facts(pa.table({"_id": ["a"]}), {"corpus": pa.table({"_id": ["a"]})})
    with pytest.raises(ConfigError, match=r"no table 'korpus' to refer to .there are: corpus"):
        facts.known("_id", "korpus")
    with pytest.raises(ConfigError, match="no column 'id'"):
        facts.single(["id"])
