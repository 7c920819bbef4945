"""Hostile input into every format: an error of ours, or rows with their faults, and nothing else.

Packings, bombs, pipes and links have tests of their own (``test_places*``, ``test_zips``); here they come
in by the same door as a user's collection does. Issue 5, point 8.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llara_core.data.formats import open_place_as_source
from llara_core.errors import DataError
from tests.fuzz.targets import FILES, SEPARATOR, TARGETS, checked

LINES = st.sampled_from(
    [
        b'{"_id": "a", "text": "x"}', b'{"_id": 1, "text": null}', b"[1]", b"{", b"null", b'"a"',
        b'{"a": NaN}', b'{"_id": "a", "_id": "b"}', b"\xff\xfe", b"\x00", b'{"text": "\\u0000\\ud800"}',
        b"a\tb\tc", b"a,b,c", b'"unclosed', b'"a""b",c', b"q\td\t1", b"q\td\t1e999",
        b"q\td\t99999999999999999999", b"\r", b"\xef\xbb\xbf", b"[" * 5000, b'{"a":' * 300, b"\t" * 2000,
        b"," * 2000, b"id,title,text", b"query-id\tcorpus-id\tscore",
        b'{"query": "q", "pos": "a", "neg": {}}', b'{"query": ["q"], "pos": [1, null], "neg": [[]]}',
        b'{"anchor": {}, "positive": []}', b'{"query_id": {}, "query": 1, "positive_passages": [1]}',
        b'{"input": 1, "output_summarize": []}',
        b'{"_id": "a", "text": "x", "metadata": {"position": 1e99}}',
        b'{"_id": "a", "text": "x", "metadata": {"group": [], "position": "x"}}', b"PAR1", b"ARROW1",
        b"\xe2\x80\xa8",
    ]
)  # fmt: skip


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "passages"])
@settings(max_examples=40)
@given(data=st.data())
def test_whatever_the_bytes_are(target: str, data: st.DataObject) -> None:
    example = SEPARATOR.join(FILES.get(target, {"": b'{"_id": "a", "text": "x"}\n'}).values())
    parts = st.lists(st.one_of(LINES, st.binary(max_size=40)), max_size=12).map(b"\n".join)
    hostile = data.draw(st.one_of(parts, parts.map(lambda rest: example + rest), st.binary(max_size=200)))
    with tempfile.TemporaryDirectory() as folder:
        TARGETS[target](Path(folder), hostile)


def rows(place: Path, format: str = "auto"):
    return [row for file in open_place_as_source(place, format=format).files for row in checked(file.read())]


def refused(place: Path, format: str = "auto") -> str:
    with pytest.raises(DataError) as error:
        rows(place, format)
    return str(error.value.rule)


def test_gzip_cut_in_the_middle_gives_what_came_before(tmp_path) -> None:
    lines = b"".join(
        b'{"_id": "%d", "title": "", "text": "%s"}\n' % (row, os.urandom(30).hex().encode())
        for row in range(5000)
    )
    packed = gzip.compress(lines)
    (tmp_path / "a.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    found = rows(tmp_path / "a.jsonl.gz", "jsonl")
    assert found[-1].fault.rule == "readable" and 1000 < sum(row.record is not None for row in found) < 5000


def test_a_pipe_a_link_to_itself_and_a_device_are_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert refused(tmp_path / "pipe.jsonl", "jsonl") == "regular_file"
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    refused(tmp_path / "loop.jsonl", "jsonl")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    assert refused(tmp_path / "zero.jsonl", "jsonl") == "regular_file"


def test_folders_that_hold_themselves_end(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("Some text.")
    (tmp_path / "again").symlink_to(tmp_path)
    assert len(rows(tmp_path, "text")) == 1


def test_ten_thousand_columns(tmp_path) -> None:
    names = ["id", "title", "text", *(f"c{number}" for number in range(10_000))]
    for separator, kind in ((",", "csv"), ("\t", "tsv")):
        file = tmp_path / f"a.{kind}"
        file.write_text(separator.join(names) + "\n" + separator.join(["a"] * len(names)) + "\n")
        assert [row.record["text"] for row in rows(file, kind)] == ["a"]
    (tmp_path / "a.jsonl").write_text(json.dumps(dict.fromkeys(names, "a")) + "\n")
    assert [row.record["text"] for row in rows(tmp_path / "a.jsonl", "jsonl")] == ["a"]
    pq.write_table(pa.table({name: ["a"] for name in names}), tmp_path / "a.parquet")
    assert [row.record["text"] for row in rows(tmp_path / "a.parquet", "parquet")] == ["a"]


def test_nested_json_and_nul_bytes_are_faults_of_their_rows(tmp_path) -> None:
    good = b'{"_id": "a", "title": "", "text": "x"}\n'
    (tmp_path / "a.jsonl").write_bytes(good + b"[" * 100_000 + b"\n" + b"\x00" * 50 + b"\n" + good)
    found = rows(tmp_path / "a.jsonl", "jsonl")
    assert [row.fault.rule if row.fault else "" for row in found] == ["", "valid_json", "valid_json", ""]


def test_names_in_archives_lead_nowhere(tmp_path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    with zipfile.ZipFile(inside / "a.zip", "w") as archive:
        for name in ("../corpus.jsonl", "/corpus.jsonl", "../../queries.jsonl", "qrels/../../test.tsv"):
            archive.writestr(name, '{"_id": "a", "text": "x"}\n')
    refused(inside / "a.zip", "beir")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.zip", "inside"]


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"_id": "a", "title": "", "text": "x"}\n' * 50_000)
    source = open_place_as_source(file, format="jsonl")
    reading = iter(source.files[0].read())
    next(reading)
    with file.open("ab") as stream:
        stream.write(b'{"_id": "z", "title": "", "text": "x"}\n')
    with pytest.raises(DataError) as error:
        list(reading)
    assert error.value.rule == "changed_while_read"
