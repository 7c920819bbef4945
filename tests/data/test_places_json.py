"""What JSON is taken, what it means, and in what time (issue 5, points 1 and 8)."""

from __future__ import annotations

import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llara_core.data.places import DEEPEST, parse_json
from llara_core.data.raw import RowError


def one(data: bytes) -> object:
    """What ``parse_json`` makes of a line: the record, or the name of the broken rule."""
    try:
        return parse_json(data)
    except RowError as error:
        return error.rule


ACCEPTED = {
    b'{"a": 1, "a": 2}': {"a": 2},  # the last counts
    b'{"a": Infinity, "b": -Infinity}': {"a": math.inf, "b": -math.inf},
    b'{"a": 1e400}': {"a": math.inf},
    b'{"a": 123456789012345678901234567890}': {"a": 123456789012345678901234567890},
    b'{"a": -0}': {"a": 0},
    b'{"a": "\\u0000"}': {"a": "\0"},
    b'{"a": "\\ud83d\\ude00"}': {"a": "\U0001f600"},
    b'{"a": "\\ud800"}': {"a": "\ud800"},  # half a pair: a text rule refuses it
    b'{"a": "\\ud800x\\udc00"}': {"a": "\ud800x\udc00"},
    ' {"\u00e4": "\u2028\x7f\x85"} \r'.encode(): {"\u00e4": "\u2028\x7f\x85"},
    b'{"": {"b": [null, true, false, 0.1]}}': {"": {"b": [None, True, False, 0.1]}},
}


REFUSED = {
    b'{"a": 1': "valid_json",
    b'{"a": 1} x': "valid_json",
    b"{'a': 1}": "valid_json",
    b'{"a": 01}': "valid_json",
    b'{"a": 1.}': "valid_json",
    b'{"a": 1,}': "valid_json",
    b'{"a": "\t"}': "valid_json",
    b'{"a": "\0"}': "valid_json",
    b'{"a": 1}\0': "valid_json",
    b"\0\0\0\0": "valid_json",
    b'\xef\xbb\xbf{"a": 1}': "valid_json",
    b'{"a": 1' + b"0" * 5000 + b"}": "valid_json",
    b'{"a": "\xff"}': "valid_utf8",
    b'{"a": "\xed\xa0\x80"}': "valid_utf8",  # a surrogate in UTF-8
    b'{"a": "\xc0\x80"}': "valid_utf8",  # an overlong NUL
    b'{"a": "\xf4\x90\x80\x80"}': "valid_utf8",  # above U+10FFFF
    '{"a": "x"}'.encode("utf-16-le"): "valid_json",
    b"[1, 2]": "json_object",
    b'"text"': "json_object",
    b"17": "json_object",
    b"null": "json_object",
    b"NaN": "json_object",
}


@pytest.mark.parametrize("line", ACCEPTED)
def test_what_is_accepted_and_what_it_means(line):
    assert one(line) == ACCEPTED[line]
    assert one(line) == json.loads(line.decode())


def test_nan_is_a_number():
    value = parse_json(b'{"a": NaN}')["a"]
    assert isinstance(value, float) and math.isnan(value)


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_refused_and_why(line):
    assert one(line) == REFUSED[line]


def test_messages_say_where():
    said = {}
    for line in (b'{"a": 1', b'{"a": "\xff"}', b"[1]"):
        with pytest.raises(RowError) as caught:
            parse_json(line)
        said[line] = str(caught.value)
    assert list(said.values()) == [
        "malformed JSON: Expecting ',' delimiter at column 8",
        "not valid UTF-8 (byte 0xff at offset 7 of the line)",
        "expected a JSON object, got list",
    ]


@pytest.mark.parametrize("opening,closing", [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_has_one_limit_wherever_the_caller_stands(opening, closing):
    """Python's own parser gives up sooner the deeper its caller stands; ours does not."""

    def nested(depth: int) -> bytes:
        return b'{"a":' + opening * (depth - 1) + b"1" + closing * (depth - 1) + b"}"

    def from_below(frames: int, line: bytes) -> object:
        return one(line) if frames == 0 else from_below(frames - 1, line)

    for frames in (0, 600):
        assert isinstance(from_below(frames, nested(DEEPEST)), dict)
        assert from_below(frames, nested(DEEPEST + 1)) == "valid_json"
        assert from_below(frames, nested(100_000)) == "valid_json"
    brackets_in_text = json.dumps({"a": '[{\\"' * 500, "b": "\ud800"}).encode()
    assert isinstance(one(brackets_in_text), dict)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(value=st.dictionaries(st.text(), json_values, max_size=5), ascii_only=st.booleans())
def test_what_python_writes_is_read_back(value, ascii_only):
    line = json.dumps(value, ensure_ascii=ascii_only)
    try:
        raw = line.encode()
    except UnicodeEncodeError:  # half a surrogate pair cannot be written as UTF-8
        return
    assert parse_json(raw) == json.loads(line)


signs = [*'{}[]":,a1-.e\\ \t\0', "u00", "\\ud8", "null", "NaN", "true"]


alphabet = st.sampled_from([*(sign.encode() for sign in signs), b"\xc3", b"\xa4", b"\xff"])


@given(line=st.lists(alphabet, max_size=25).map(b"".join))
def test_python_is_the_judge_of_every_line(line):
    """The fast parser must not take what Python's refuses, nor the other way round."""
    try:
        expected: object = json.loads(line.decode())
        if not isinstance(expected, dict):
            expected = "json_object"
    except UnicodeDecodeError:
        expected = "valid_utf8"
    except ValueError:
        expected = "valid_json"
    found = one(line)
    assert repr(found) == repr(expected)  # NaN is not equal to itself


@pytest.mark.parametrize(
    "line",
    [
        b'{"a":' + b"[" * 2_000_000,
        b'{"a":"' + b'\\"' * 1_000_000,
        b"{" + b'"\\' * 1_000_000,
        b'{"a":' + b"9" * 2_000_000 + b"}",
        b'{"a":0.' + b"9" * 2_000_000 + b"}",
        b'{"a":"\\ud800' + b'[\\"{' * 500_000,
        b'{"a":"' + b"\\ud800" * 300_000 + b'"}',
        b'{"a":"\xff' + b"x" * 2_000_000,
    ],
    ids=["brackets", "quotes", "escapes", "digits", "fraction", "mixed", "surrogates", "bytes"],
)
def test_time_is_linear_in_the_line(line):
    """Twice the line takes about twice as long, not four times (a regular expression could)."""

    def seconds(times: int) -> float:
        begun = time.process_time()
        for _ in range(times):
            one(line)
        return time.process_time() - begun

    seconds(1)
    half = line[: len(line) // 4]
    begun = time.process_time()
    one(half)
    quarter = max(time.process_time() - begun, 0.02)
    assert seconds(1) < 12 * quarter
