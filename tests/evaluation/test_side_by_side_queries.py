"""Kinds and lengths of queries: the rules, by example."""

from __future__ import annotations

import numpy as np
import pytest

from llara_core.evaluation.side_by_side_queries import (
    KINDS,
    kind,
    kind_groups,
    length_groups,
    moved_most,
    word_count,
)
from tests.oracles.saved_results import result


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("what similarity laws must be obeyed when constructing aeroelastic models", "what"),
        ("What's new?", "what"),
        ("What\u2019s new?", "what"),
        ("Whose turn is it", "who"),
        ("why so", "why"),
        ("how do planes fly .", "how"),
        ("is it raining", "other question"),
        ("can bats see in the dark .", "other question"),
        ("the capital of France?", "other question"),
        ("\u9996\u90fd\u5728\u54ea\u91cc\uff1f", "other question"),
        ("Autophagy declines in aged organisms.", "sentence or claim"),
        ('He said "no."', "sentence or claim"),
        ("CCL19 is absent within dLNs", "sentence or claim"),
        ("to be sure", "keywords"),
        ("python temporary file", "keywords"),
        ("whatever works", "keywords"),
        ("", "keywords"),
        (" ?", "other question"),
    ],
)
def test_kinds(text: str, expected: str) -> None:
    assert kind(text) == expected
    assert expected in KINDS


def test_words_stand_between_spaces() -> None:
    assert [word_count(text) for text in ("", "one", " two  words\n", "a-b c")] == [0, 1, 2, 2]


def names_and_sizes(groups: list[tuple[str, np.ndarray]]) -> list[tuple[str, int]]:
    return [(name, int(marks.sum())) for name, marks in groups]


def test_length_groups_are_about_equal_and_never_small() -> None:
    # 100 queries, a quarter is 25: 1 and 2 words together have 30; then 3 words 30, 4 and 5 words 40.
    counts = [1] * 10 + [2] * 20 + [3] * 30 + [4] * 20 + [5] * 20
    assert names_and_sizes(length_groups(counts)) == [
        ("1 to 2 words", 30), ("3 words", 30), ("4 to 5 words", 40),
    ]  # fmt: skip
    # What is left over and too small joins the group before it.
    assert names_and_sizes(length_groups([1] * 40 + [2] * 30 + [9] * 5)) == [
        ("1 word", 40), ("2 to 9 words", 35),
    ]  # fmt: skip
    # ... and stands alone when it is large enough.
    assert names_and_sizes(length_groups([1] * 100 + [7] * 20)) == [("1 word", 100), ("7 words", 20)]
    assert names_and_sizes(length_groups([3, 4, 5])) == [("3 to 5 words", 3)]
    assert length_groups([]) == []


def test_every_query_is_in_exactly_one_length_group() -> None:
    counts = np.random.default_rng(0).integers(1, 60, 500).tolist()
    groups = length_groups(counts)
    assert len(groups) == 4
    assert (sum(marks.astype(int) for _, marks in groups) == 1).all()
    assert min(int(marks.sum()) for _, marks in groups) >= 20


def test_rare_kinds_join_or_are_left_out() -> None:
    texts = ["what"] * 25 + ["why"] * 12 + ["how"] * 8
    assert names_and_sizes(kind_groups(texts)) == [("what", 25), ("other kinds", 20)]
    assert names_and_sizes(kind_groups(texts[:40])) == [("what", 25)]
    assert kind_groups(texts[:10]) == [] == kind_groups([])


def test_moved_queries_come_in_order_and_at_most_five_a_side() -> None:
    old = result("old", [0.0] * 8 + [0.5, 0.5])
    new = result("new", [0.1, 0.3, 0.2, 0.3, 0.6, 0.05, 0.02, 0.0, 0.5, 0.1])
    moved = moved_most(new, old, "ndcg_at_10", None)
    assert [one["query_id"] for one in moved["up"]] == ["q4", "q1", "q3", "q2", "q0"]  # ties in order
    assert [one["query_id"] for one in moved["down"]] == ["q9"]
