"""Rows of files of lines: what ends a row, what JSON is taken, and that nothing is lost (issue 5)."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llara_core.data.places import Limits, read_json_lines, read_lines, read_rows
from llara_core.data.places_unpack import packing_in
from llara_core.data.raw import KEPT_BYTES, Fault, Raw, RowError
from llara_core.errors import DataError


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def rows(path: Path, data: bytes, **options: int) -> list[Raw]:
    return list(read_lines(write(path, data), **options))


def test_only_a_line_feed_ends_a_row(tmp_path):
    """Real MS MARCO text holds U+2028, U+0085 and form feeds, which ``splitlines`` takes for line ends."""
    texts = ["a\u2028b", "a\u2029b", "a\x85b", "a\x0bb", "a\x0cb", "a\x1cb", "a\x1db", "a\x1eb", "a\rb"]
    data = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode()
    found = list(read_json_lines(write(tmp_path / "a.jsonl", data)))
    assert [row.record for row in found] == [{"text": text} for text in texts]
    plain = "\n".join(texts).encode()
    assert [row.raw.decode() for row in rows(tmp_path / "b.txt", plain)] == texts


def test_numbers_sizes_and_offsets_lead_back_to_the_bytes(tmp_path):
    data = b'\xef\xbb\xbf{"a": 1}\r\n\n  \t\n{"a": 2}\nbroken\n\n{"a": 3}'
    found = list(read_json_lines(write(tmp_path / "a.jsonl", data)))
    assert [(row.number, row.record) for row in found] == [
        (1, {"a": 1}),
        (4, {"a": 2}),
        (5, None),
        (7, {"a": 3}),
    ]
    for row in found:
        assert data[row.offset : row.offset + row.size] == row.raw
    assert found[2].fault == Fault("valid_json", "malformed JSON: Expecting value at column 1")


@pytest.mark.parametrize("data", [b"", b"\n", b"\n\n \t\r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_files_without_rows_have_none(tmp_path, data):
    assert rows(tmp_path / "a.txt", data) == []


def test_a_byte_order_mark_counts_only_at_the_beginning(tmp_path):
    found = rows(tmp_path / "a.txt", b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n")
    assert [row.raw for row in found] == [b"a", b"\xef\xbb\xbfb"]
    with pytest.raises(DataError, match=r"is UTF-16; expected UTF-8.*iconv") as caught:
        rows(tmp_path / "a.txt", "a\n".encode("utf-16"))
    assert caught.value.rule == "valid_utf8"


pieces = st.lists(
    st.one_of(st.binary(max_size=30), st.sampled_from([b"\n", b"\r\n", b" ", b"\xef\xbb\xbf", b"x" * 40])),
    max_size=40,
).map(b"".join)


@given(data=pieces, longest=st.integers(1, 60), block=st.integers(1, 50))
def test_every_byte_is_in_a_row_or_blank(tmp_path_factory, data, longest, block):
    """Against the plain definition, for every block size and limit."""
    from llara_core.data import places_lines

    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or packing_in(data):
        return  # refused whole
    file = write(tmp_path_factory.mktemp("p") / "a.txt", data)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(places_lines, "_BLOCK", block)
        found = list(read_lines(file, longest=longest))
    start = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    lines = data[start:].split(b"\n")
    expected, offset = [], start
    for number, line in enumerate(lines, start=1):
        if line.strip():
            expected.append((number, offset, len(line), line, len(line) > longest))
        offset += len(line) + 1
    seen = [(row.number, row.offset, row.size, row.raw, row.fault is not None) for row in found]
    # of a line too long the whole is kept here, as all are far below KEPT_BYTES; a blank one is told too
    assert [row for row in seen if row[3].strip()] == expected
    assert all(row[4] for row in seen if not row[3].strip())


def test_a_line_too_long_is_told_and_the_next_ones_are_read(tmp_path):
    data = b'{"a": 1}\n' + b"x" * (5 << 20) + b'\n{"a": 2}\n' + b"y" * (5 << 20)
    found = list(read_json_lines(write(tmp_path / "a.jsonl", data), longest=3 << 20))
    assert [(row.number, row.size, len(row.raw)) for row in found] == [
        (1, 8, 8),
        (2, 5 << 20, KEPT_BYTES),
        (3, 8, 8),
        (4, 5 << 20, KEPT_BYTES),
    ]
    assert found[1].fault == Fault("row_length", "the row has 5,242,880 bytes; expected at most 3,145,728")
    assert found[3].offset == len(data) - (5 << 20)


def test_a_row_above_what_is_kept_is_parsed_whole(tmp_path):
    text = "z" * (3 * KEPT_BYTES)
    data = json.dumps({"text": text}).encode()
    (row,) = read_json_lines(write(tmp_path / "a.jsonl", data))
    assert row.record == {"text": text}
    assert (row.raw, row.size) == (data[:KEPT_BYTES], len(data))
    (cells,) = read_rows(write(tmp_path / "a.tsv", data), lambda line: {"size": len(line)})
    assert cells.record == {"size": len(data)}


def test_a_parser_of_ones_own_says_what_is_wrong(tmp_path):
    def parse(line: bytes) -> dict[str, str]:
        cells = line.decode().split("\t")
        if len(cells) != 2:
            raise RowError("columns", f"expected 2 cells, got {len(cells)}")
        return {"id": cells[0], "text": cells[1]}

    found = list(read_rows(write(tmp_path / "a.tsv", b"1\tone\n2\n3\tthree\n"), parse))
    assert [row.record for row in found] == [{"id": "1", "text": "one"}, None, {"id": "3", "text": "three"}]
    assert found[1] == Raw(2, None, b"2", Fault("columns", "expected 2 cells, got 1"), 1, 6)


def test_rows_before_a_cut_are_given_and_then_the_reason(tmp_path):
    data = b"".join(
        b'{"a": %d, "noise": "%s"}\n' % (row, os.urandom(20).hex().encode()) for row in range(2000)
    )
    packed = gzip.compress(data)
    file = write(tmp_path / "a.jsonl.gz", packed[: len(packed) // 2])
    found = list(read_json_lines(file))
    *good, last = found
    assert len(good) > 500 and [row.record["a"] for row in good if row.record] == list(range(len(good)))
    assert last.fault is not None and last.fault.rule == "readable"
    assert last.fault.reason.startswith(f"cannot be read after row {len(good)}: the gzip data end early")
    assert (last.number, last.record) == (len(good) + 1, None)
    assert data.startswith(b"".join(row.raw + b"\n" for row in good) + last.raw)  # not a byte is lost
    whole = gzip.compress(b'{"a": 1}\n')
    first, end = read_json_lines(write(tmp_path / "b.jsonl.gz", whole[:-4]))
    assert (first.record, end.raw, end.number) == ({"a": 1}, b"", 2)


def test_a_bomb_ends_reading_with_an_error(tmp_path):
    data = b'{"a": 1}\n' * 100 + b" " * (4 << 20)
    file = write(tmp_path / "a.jsonl.gz", gzip.compress(data))
    with pytest.raises(DataError) as caught:
        list(read_json_lines(file, limits=Limits(harmless=1 << 20)))
    assert caught.value.rule == "expansion"


def test_rows_may_be_left_unread(tmp_path):
    """The first rows tell the format of a file; the rest is not read for it."""
    file = write(tmp_path / "a.jsonl", b'{"a": 1}\n' * 100_000)
    reading = read_json_lines(file)
    assert next(reading).record == {"a": 1}
    reading.close()
    file.unlink()
