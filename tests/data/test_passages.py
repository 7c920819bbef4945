"""Consecutive passages, compared with rows written by hand."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llara_core.data.collection import CORPUS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.data.passages import adaptation_rows, held_out_rows, windows
from llara_core.errors import ConfigError, DataError


def collection_of(*documents):
    """Documents are (text, group, position)."""
    rows = [
        {"_id": str(i), "title": "", "text": text, "group": group, "position": position, "line": i + 1}
        for i, (text, group, position) in enumerate(documents)
    ]
    return Collection("c", pa.Table.from_pylist(rows, CORPUS_SCHEMA), QUERIES_SCHEMA.empty_table(), {})


def pairs(collection, size=100):
    table = adaptation_rows(collection, size)
    return list(zip(table["text"].to_pylist(), table["next_text"].to_pylist(), strict=True))


def test_group_members_follow_by_position():
    collection = collection_of(
        ("m third", "m", 3), ("n only pair", "n", 0), ("m first", "m", 1), ("m second", "m", 2)
    )
    assert pairs(collection) == [
        ("m first", "m second"),
        ("m second", "m third"),
        ("m third", "m second"),  # the last looks back
        ("n", "only pair"),  # alone in its group: its own halves
    ]


def test_members_without_position_come_last_in_corpus_order():
    collection = collection_of(("x x", "g", None), ("a a", "g", 5), ("y y", "g", None), ("", "g", 0))
    assert pairs(collection) == [("a a", "x x"), ("x x", "y y"), ("y y", "x x")]


def test_lone_document_is_cut_at_sentence_ends():
    text = "One two three four. Five six seven eight! Nine ten (eleven twelve.) Thirteen fourteen."
    assert windows(text, 4) == [
        "One two three four.",
        "Five six seven eight!",
        "Nine ten (eleven twelve.)",
        "Thirteen fourteen.",
    ]
    assert pairs(collection_of((text, None, None)), 7) == [
        ("One two three four. Five six seven eight!", "Nine ten (eleven twelve.) Thirteen fourteen."),
        ("Nine ten (eleven twelve.) Thirteen fourteen.", "One two three four. Five six seven eight!"),
    ]


def test_single_window_is_halved_and_single_words_are_left_out():
    collection = collection_of(
        ("one two three", None, None), ("word", None, None), ("", None, None), (" \n", None, None)
    )
    assert pairs(collection) == [("one", "two three")]


def test_script_without_spaces():
    text = "日本語の文章です。" * 120  # sentences of 9 characters, measured as one word each
    cut = windows(text, 40)
    assert len(cut) == 3 and all(part.endswith("。") for part in cut)
    assert pairs(collection_of(("漢字" * 8, None, None))) == [("漢字" * 4, "漢字" * 4)]


def test_sentence_longer_than_a_window_is_cut_between_words():
    assert windows(" ".join("abcdefghijk"), 4) == ["a b c d", "e f g h", "i j k"]


def test_title_is_part_of_the_text():
    table = collection_of(("body text", None, None)).corpus.set_column(1, "title", pa.array(["Head line"]))
    collection = Collection("c", table, QUERIES_SCHEMA.empty_table(), {})
    assert pairs(collection) == [("Head line", "body text")]


def test_nothing_to_learn_from():
    with pytest.raises(DataError, match="two words"):
        adaptation_rows(collection_of(("word", None, None)))
    with pytest.raises(ConfigError, match="got 1"):
        adaptation_rows(collection_of(("two words", None, None)), 1)


@given(
    st.text(alphabet="ab .!?\n\"')字。", max_size=300),
    st.integers(min_value=2, max_value=20),
)
def test_windows_lose_only_white_space(text, size):
    cut = windows(text, size)
    assert "".join("".join(cut).split()) == "".join(text.split())
    assert all(part.strip() for part in cut)


@given(st.lists(st.integers(min_value=1, max_value=30), min_size=1, max_size=40), st.integers(5, 50))
def test_windows_stay_near_the_size_asked(lengths, size):
    """A window holds at most the share asked (up to half more by rounding) and one piece that overhangs."""
    text = " ".join(" ".join(["word"] * length) + "." for length in lengths)
    assert all(len(part.split()) <= 1.5 * size + min(size, max(lengths)) for part in windows(text, size))


def test_same_rows_every_time(beir_folder):
    from llara_core.data.formats import read_beir

    first, second = (adaptation_rows(read_beir(beir_folder)) for _ in range(2))
    assert first.equals(second) and first.num_rows == 24
    assert all(first["text"].to_pylist()) and all(first["next_text"].to_pylist())


@given(total=st.integers(10, 400), count=st.integers(1, 200))
def test_held_out_rows_share_no_text_with_training_rows(total: int, count: int) -> None:
    texts = [f"passage {number}" for number in range(total)]
    rows = pa.table({"text": texts, "next_text": [*texts[1:], texts[-2]]})
    training, held_out = held_out_rows(rows, count)
    assert held_out.num_rows == min(count, total // 5)
    seen = {*training["text"].to_pylist(), *training["next_text"].to_pylist()}
    assert seen.isdisjoint(held_out["text"].to_pylist())
    # At most two rows a block are lost, so that neighbours never meet.
    assert training.num_rows >= total - held_out.num_rows - 2 * 16
    assert held_out_rows(rows, count)[1].equals(held_out)


def test_held_out_rows_are_spread_over_the_corpus() -> None:
    texts = [str(number) for number in range(1000)]
    _, held_out = held_out_rows(pa.table({"text": texts, "next_text": texts}), 4, blocks=4)
    assert held_out["text"].to_pylist() == ["125", "375", "625", "875"]


def test_too_few_rows_to_hold_any_out() -> None:
    with pytest.raises(DataError, match="9 rows; at least 10"):
        held_out_rows(pa.table({"text": ["a"] * 9, "next_text": ["b"] * 9}), 1)
