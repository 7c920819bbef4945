"""Batches must give what one batch of all rows gives: both our way and by Great Expectations alone."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest

from steps.expectation_facts import Facts, judging
from steps.expectation_run import _validated, run_suite
from steps.expectation_suites import Suite
from steps.frames import Judged

ROWS = 157


def table(seed: int, bad: float) -> pa.Table:
    draw = random.Random(seed)
    texts = [None if draw.random() < 0.05 else "x" * draw.randint(0, 12) for _ in range(ROWS)]
    spoilt = [" " if draw.random() < bad else text for text in texts]
    return pa.table(
        {
            "_id": [f"d{draw.randint(0, ROWS * 3)}" for _ in range(ROWS)],
            "text": spoilt,
            "again": [text if draw.random() < 0.9 else "other" for text in spoilt],
            "score": pa.array([draw.randint(-4, 110) for _ in range(ROWS)], pa.int32()),
            "line": pa.array(range(2, ROWS + 2), pa.int32()),
        }
    )


def expectation(kind: str, **kwargs: Any) -> dict[str, Any]:
    return {"type": kind, "kwargs": kwargs, "severity": "warning", "meta": {"rule": "text_length"}}


KINDS = (
    # Not in the order of their columns: Great Expectations sorts its results its own way.
    expectation("expect_column_values_to_match_regex", column="text", regex="\\S"),
    expectation("expect_column_values_to_stand_once", column="_id"),
    expectation("expect_column_values_to_match_regex", column="text", regex="\\S", mostly=0.9),
    expectation("expect_table_row_count_to_be_between", min_value=ROWS, max_value=ROWS),
    expectation("expect_table_row_count_to_be_between", min_value=ROWS, strict_min=True),
    expectation("expect_column_values_to_not_be_null", column="text"),
    expectation("expect_column_values_to_be_null", column="text", mostly=0.02),
    expectation("expect_column_value_lengths_to_be_between", column="text", max_value=10, mostly=0.8),
    expectation("expect_column_values_to_be_between", column="score", min_value=-2, max_value=100),
    expectation("expect_column_values_to_be_known", column="_id", among="corpus", mostly=0.4),
    expectation("expect_column_token_counts_to_be_between", column="text", max_value=2),
    expectation("expect_column_pair_values_to_be_equal", column_A="text", column_B="again", mostly=0.5),
    expectation("expect_multicolumn_values_to_be_equal", column_list=["text", "again"]),
)
SUITE = Suite("corpus", 1, KINDS)


def judged(data: pa.Table) -> Judged:
    known = pa.table({"_id": [f"d{number}" for number in range(0, ROWS * 3, 2)]})
    return Judged("corpus", "corpus.jsonl", data, Facts(data, {"corpus": known}))


def plain(result: Any) -> list[Mapping[str, Any]]:
    return [
        {"type": one.expectation_config.type, "success": one.success, **one.to_json_dict()["result"]}
        for one in result.results
    ]


@pytest.mark.parametrize("rows", [1, 60])
@pytest.mark.parametrize("bad", [0.0, 0.1, 1.0])
def test_batches_give_what_one_batch_gives(rows: int, bad: float) -> None:
    data = judged(table(rows, bad)) if rows > 1 else judged(table(rows, bad).slice(0, 4))
    whole, parts = run_suite(data, SUITE), run_suite(data, SUITE, rows=rows)
    assert plain(parts) == plain(whole)
    assert (parts.success, parts.statistics) == (whole.success, whole.statistics)


@pytest.mark.parametrize("bad", [0.0, 0.1, 1.0])
def test_batches_give_what_great_expectations_alone_gives(bad: float) -> None:
    data = judged(table(3, bad))
    with judging(data.facts):
        frame = next(iter(data.batches()))
        alone = _validated(frame, SUITE, {}, "SUMMARY", ["line", "_id"])
    parts = run_suite(data, SUITE, rows=70)
    for ours, theirs in zip(plain(parts), plain(alone), strict=True):
        assert {key: ours[key] for key in theirs} == theirs
    assert (parts.success, parts.statistics) == (alone.success, alone.statistics)
    assert any(not one.success for one in alone.results) and any(one.success for one in alone.results)


def test_the_share_is_of_all_rows_and_not_of_a_batch() -> None:
    """One batch is wholly bad and the others good: 90% hold, which no single batch says."""
    texts = ["good"] * 90 + [" "] * 10
    data = pa.table({"text": texts, "line": pa.array(range(1, 101), pa.int32())})
    one = Judged("corpus", "c", data, Facts(data, {}))

    def holds(mostly: float) -> bool:
        kind = expectation("expect_column_values_to_match_regex", column="text", regex="\\S", mostly=mostly)
        return bool(run_suite(one, Suite("corpus", 1, (kind,)), rows=50).success)

    assert (holds(0.9), holds(0.91)) == (True, False)


def test_the_first_broken_rows_are_named_across_batches() -> None:
    texts = ["good"] * 25 + [" "] * 3 + ["good"] * 2000 + [" "] * 40
    data = pa.table({"text": texts, "line": pa.array(range(1, len(texts) + 1), pa.int32())})
    kind = expectation("expect_column_values_to_match_regex", column="text", regex="\\S")
    for rows in (1500, 10_000):
        result = run_suite(
            Judged("corpus", "c", data, Facts(data, {})), Suite("corpus", 1, (kind,)), rows=rows
        )
        found = result.results[0].result
        lines = [place["line"] for place in found["partial_unexpected_index_list"]]
        assert lines == [26, 27, 28, *range(2029, 2046)]
        assert found["unexpected_count"] == 43


def test_an_expectation_on_a_missing_column_stops_with_its_name() -> None:
    data = pa.table({"text": ["a"], "line": pa.array([1], pa.int32())})
    kind = expectation("expect_column_values_to_match_regex", column="txt", regex="x")
    with pytest.raises(RuntimeError, match=r"match_regex of suite 'corpus' could not be judged on c: .*txt"):
        run_suite(Judged("corpus", "c", data, Facts(data, {})), Suite("corpus", 1, (kind,)))


def test_a_table_without_rows_is_judged_once() -> None:
    data = table(0, 0).slice(0, 0)
    result = run_suite(judged(data), SUITE)
    counts = {one["type"]: one.get("element_count", one.get("observed_value")) for one in plain(result)}
    assert set(counts.values()) == {0}
