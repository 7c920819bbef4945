"""Windows by tokens: what every one of them must hold, and documents cut by hand."""

from __future__ import annotations

import functools
from itertools import pairwise

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llara_core.data.passages import split_passages
from llara_core.data.passages_sentences import sentences
from llara_core.data.passages_tokens import counter
from llara_core.errors import ConfigError
from tests.oracles import tokenizers

KINDS = {
    "words": lambda: None,
    "characters": lambda: list,
    "split": lambda: lambda text: len(text.split()),
    **tokenizers.KINDS,
}


@functools.cache
def tokenizer_of(kind: str):
    return KINDS[kind]()


def texts(*args, **kwargs) -> list[str]:
    return [one.text for one in split_passages(*args, **kwargs)]


PARTS = st.sampled_from(
    [
        "One sentence here. ", "Dr. No left, e.g. at 3.14. ", "no end ", "\n\n", "\n", "# Heading\n",
        "Title\n===\n",
        "| a | b |\n|---|---|\n| c d | e |\n| f | g |\n",
        "- an item. Of two\n", "1. first\n", "```\ncode = 1\n\n  x\n```\n",
        "a\tb\nc\td\n", "日本語の文章です。", "漢字「かな。」", "ไทยภาษา ", "e\u0301",
        "👨\u200d👩\u200d👧", "🇩🇪🇫🇷", "각",
        "supercalifragilistic" * 3, "The list:\n", "\r\n", "\u2028", "\x0b", "\x00", "。\ufe01", "🎈",
    ]
)  # fmt: skip
DOCUMENTS = st.lists(st.one_of(PARTS, st.text(max_size=6)), max_size=25).map("".join)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@example(text="One sentence here. \x00\n\nOne sentence here. ", tokens=8)  # WordPiece drops the NUL
@given(text=DOCUMENTS, tokens=st.integers(8, 40))
def test_no_window_is_too_long_and_nothing_but_white_space_is_lost(kind: str, text: str, tokens: int) -> None:
    tokenizer = tokenizer_of(kind)
    found = split_passages(text, tokens=tokens, tokenizer=tokenizer, repeat_headers=False)
    assert all(count <= tokens for count in counter(tokenizer).counts([one.text for one in found]))
    done = 0
    for one in found:
        assert one.text == text[one.start : one.end] and one.text.strip()
        assert not text[done : one.start].strip()  # only white space between windows, and no overlap
        assert one.start >= done
        done = one.end
    assert not text[done:].strip()
    assert found == split_passages(text, tokens=tokens, tokenizer=tokenizer, repeat_headers=False)


@settings(max_examples=150)
@given(text=DOCUMENTS, tokens=st.integers(8, 40))
def test_no_cut_goes_through_what_a_reader_sees_as_one_sign(text: str, tokens: int) -> None:
    """``regex``'s own clusters over the whole text are the oracle; those that fit a window stay whole."""
    spans = [(one.start, one.end) for one in split_passages(text, tokens=tokens, repeat_headers=False)]
    for match in regex.finditer(r"\X", text):
        if any(sign.isspace() for sign in match[0]) or counter().counts([match[0]])[0] > tokens:
            continue
        assert any(start <= match.start() and match.end() <= end for start, end in spans), match


@settings(max_examples=150)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=40),
    tokens=st.integers(12, 40),
    share=st.floats(0, 0.5),
)
def test_overlap_is_as_many_whole_sentences_as_asked(lengths: list[int], tokens: int, share: float) -> None:
    overlap = int(tokens * share)
    text = " ".join(f"S{row}" + " word" * (length - 1) + "." for row, length in enumerate(lengths))
    starts = {start: row for row, (start, _) in enumerate(sentences(text))}
    ends = {end: row for row, (_, end) in enumerate(sentences(text))}
    rows = [
        (starts[one.start], ends[one.end]) for one in split_passages(text, tokens=tokens, overlap=overlap)
    ]
    assert rows[0][0] == 0 and rows[-1][1] == len(lengths) - 1
    for (first, last), (after, end) in pairwise(rows):
        assert end > last  # every window brings something new
        fits = [
            row
            for row in range(first + 1, last + 2)
            if sum(lengths[row : last + 1]) <= overlap and sum(lengths[row : last + 2]) <= tokens
        ]
        assert after == min(fits)


@given(lengths=st.lists(st.integers(1, 8), min_size=1, max_size=60), tokens=st.integers(8, 40))
def test_windows_are_as_few_as_can_be_and_about_equal(lengths: list[int], tokens: int) -> None:
    text = " ".join("Ab" + " word" * (length - 1) + "." for length in lengths)
    fewest, room = 1, tokens
    for length in lengths:  # filling each window in turn is optimal where the order is given
        if length > room:
            fewest, room = fewest + 1, tokens
        room -= length
    sizes = counter().counts(texts(text, tokens=tokens))
    assert len(sizes) == fewest
    if fewest > 1:  # none smaller can hold the longest: what is left of the last is not a scrap by choice
        assert max(sizes) <= -(-sum(lengths) // fewest) + max(lengths)


def test_title_takes_its_share() -> None:
    text = "One two three four. Five six seven eight. Nine ten eleven twelve. "
    assert texts(text, tokens=12) == ["One two three four. Five six seven eight. Nine ten eleven twelve."]
    found = texts(text, tokens=16, title="a title of six words here")
    assert found == ["One two three four. Five six seven eight.", "Nine ten eleven twelve."]
    with pytest.raises(ConfigError, match="of which a title takes 6"):
        split_passages(text, tokens=9, title="a title of six words here")


MARKDOWN = """# Title

## Part
First sentence here is some words. Second sentence is some more words here.

| a | b |
|---|---|
| one one | two two |
| three x | four y |
| five z | six w |

The list:
- item one is here
- item two is there

```python
def f(x):
    return x

y = 1
```

### Last heading
"""


def test_headings_tables_lists_and_code() -> None:
    assert texts(MARKDOWN, tokens=18) == [
        "# Title\n\n## Part\nFirst sentence here is some words. Second sentence is some more words here.",
        "| a | b |\n|---|---|\n| one one | two two |",
        "| a | b |\n|---|---|\n| three x | four y |",
        "| a | b |\n|---|---|\n| five z | six w |",
        "The list:\n- item one is here\n- item two is there",
        "```python\ndef f(x):\n    return x\n\ny = 1\n```\n\n### Last heading",
    ]
    whole = texts(MARKDOWN, tokens=18, repeat_headers=False)
    assert whole[2].startswith("| three x") and "".join("".join(whole).split()) == "".join(MARKDOWN.split())


@given(
    blocks=st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(2, 30), min_size=1)), min_size=1),
    tokens=st.integers(12, 40),
)
def test_a_heading_never_ends_a_window(blocks: list[tuple[int, list[int]]], tokens: int) -> None:
    text = "".join(
        "## H\n" * headings + " ".join("Word" + " x" * (size - 1) + "." for size in sizes) + "\n\n"
        for headings, sizes in blocks
    )
    assert all(not one.rstrip().endswith("H") for one in texts(text, tokens=tokens))


@given(rows=st.lists(st.integers(1, 8), min_size=1, max_size=30), tokens=st.integers(20, 60))
def test_table_rows_are_whole_and_stand_under_their_header(rows: list[int], tokens: int) -> None:
    lines = [f"| r{number} |" + " x" * size + " |" for number, size in enumerate(rows)]
    header = "| h | k |\n|---|---|"
    found = texts(header + "\n" + "\n".join(lines), tokens=tokens)
    assert [line for one in found for line in one.splitlines()[2:]] == lines
    assert all(one.startswith(header) for one in found)


def test_scripts_without_spaces() -> None:
    text = "日本語の文章です。" * 12
    found = texts(text, tokens=40)
    assert "".join(found) == text and all(one.endswith("。") for one in found) and len(found) == 3
    thai = "สวัสดีครับ ผมชื่อสมชาย " * 10
    assert all(one[0] != "\u0e31" for one in texts(thai, tokens=12))
    assert "".join(texts("漢" * 100, tokens=16)) == "漢" * 100


def test_tokenizer_is_used_without_its_truncation_and_left_as_it_was() -> None:
    tokenizer = tokenizers.byte_level()
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(4)
    backend.enable_padding(length=64)
    text = "the harbour opens at dawn and closes. " * 20
    assert len(texts(text, tokens=32, tokenizer=tokenizer)) > 3
    assert backend.truncation["max_length"] == 4 and backend.padding["length"] == 64


def test_half_a_surrogate_pair_is_only_a_sign() -> None:
    text = "one \ud800 two. " * 10
    found = texts(text, tokens=16, tokenizer=tokenizer_of("byte-level"))
    assert "".join("".join(found).split()) == "".join(text.split())


def test_settings_that_cannot_be() -> None:
    for changes, message in (
        ({"tokens": 7}, "tokens: got 7"),
        ({"tokens": 20, "overlap": 11}, "at most half"),
        ({"tokens": 20, "tokenizer": 5}, "got int"),
        ({"tokens": 8, "tokenizer": lambda text: 9 * len(text)}, "single character"),
        ({"tokens": 8, "tokenizer": lambda text: None}, "gave NoneType"),
    ):
        with pytest.raises(ConfigError, match=message):
            split_passages("some words of text, more than eight of them here.", **changes)
    assert split_passages(" \n", tokens=8) == [] == split_passages("", tokens=8)


def test_time_is_linear_in_hostile_text() -> None:
    """Quadratic in any of these would be hours; the limit of a test is ten minutes."""
    for text in (
        "x" * 300_000,
        "|" * 100_000,
        "# \n" * 30_000,
        "a\n" * 50_000,
        " \t" * 100_000,
        "e" + "\u0301" * 50_000,
    ):
        split_passages(text, tokens=64)
