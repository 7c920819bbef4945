"""CSV, TSV, JSON lines and Parquet under any column names, and what people's tables are like."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llara_core.data.formats import detect, open_place_as_source, strict_collection
from llara_core.errors import ConfigError, DataError
from tests.data.format_helpers import PACKERS, lines, read, read_both, table

ROWS = [
    ("7", "Lava", 'Molten "rock",\nthat flows; hot'),
    ("8", "", "Ice\u2028and\x85snow, a|b"),
    ("9", "Loom", "Weft\tand warp"),
]


def write_csv(path: Path, rows=ROWS, header=("id", "title", "text"), delimiter=",", start="") -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write(start)
        writer = csv.writer(stream, delimiter=delimiter)
        writer.writerows([header, *rows] if header else rows)
    return path


def documents(collection):
    return [(row[0], row[1], row[2]) for row in table(collection.corpus)]


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_csv_of_any_delimiter_and_packing(tmp_path, delimiter, packing):
    plain = write_csv(tmp_path / "notes.csv", delimiter=delimiter, start="\ufeff").read_bytes()
    (tmp_path / "notes.csv").unlink()
    file = tmp_path / f"notes.csv{packing}"
    file.write_bytes(PACKERS[packing](plain))
    collection = read_both(file, tmp_path / "out")
    assert documents(collection) == ROWS and collection.name == "notes"
    # A row is called by the line it begins in: the first one holds a line break.
    assert collection.corpus["line"].to_pylist() == [2, 4, 5]


def test_every_kind_gives_the_same(tmp_path):
    rows = [dict(zip(("doc_no", "heading", "body"), row, strict=True)) for row in ROWS]
    write_csv(tmp_path / "a.csv", header=("doc_no", "heading", "body"))
    write_csv(tmp_path / "a.tsv", header=("doc_no", "heading", "body"), delimiter="\t")
    lines(tmp_path / "a.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    columns = {"id": "doc_no", "text": "body", "title": "heading"}
    for kind in ("csv", "tsv", "jsonl", "parquet"):
        file = tmp_path / f"a.{kind}"
        assert detect(file) == kind
        assert documents(read_both(file, tmp_path / kind, columns=columns)) == ROWS


def test_without_header_columns_are_numbered(tmp_path):
    file = write_csv(tmp_path / "a.csv", header=None)
    with pytest.raises(
        DataError, match=r"a\.csv:1: no header: the first row is '7, Lava.*\{id: 1, text: 2\}"
    ):
        read(file)
    assert documents(read(file, columns={"id": "1", "text": "3", "title": "2"})) == ROWS


def test_an_unknown_name_is_told_with_those_that_there_are(tmp_path):
    file = lines(tmp_path / "a.jsonl", [{"nr": 1, "inhalt": "x"}])
    with pytest.raises(
        DataError, match=r"no column for text \(known names: text, contents.*nr, inhalt.*\{text:"
    ):
        read(file)
    with pytest.raises(DataError, match=r"no column body; there are: nr, inhalt"):
        read(file, columns={"text": "body"})
    with pytest.raises(ConfigError, match=r"collection\.columns: txt: unknown; did you mean 'text'\?"):
        read(file, columns={"txt": "inhalt"})
    with pytest.raises(ConfigError, match=r"unknown format 'cvs'; did you mean 'csv'\?"):
        read(file, format="cvs")


def test_rows_without_ids_are_called_by_their_place(tmp_path):
    lines(tmp_path / "t" / "b.jsonl", [{"text": "one"}, {"text": "two"}])
    (tmp_path / "t" / "more").mkdir()
    write_csv(tmp_path / "t" / "more" / "a.csv", [("x",)], ("text",))
    assert [row[0] for row in documents(read(tmp_path / "t"))] == ["b.jsonl:1", "b.jsonl:2"]
    assert [row[0] for row in documents(read(tmp_path / "t", format="csv"))] == ["more/a.csv:2"]


def test_a_ragged_row_is_told_and_the_others_come(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("id,text\n1,one\n2,two,three\n\n3\n4,four\n")
    with pytest.raises(
        DataError, match=r"a\.csv:3: expected 2 cells, as the first row has, got 3; .*\[columns\]"
    ):
        read(file)
    raws = list(open_place_as_source(file).files[0].read())
    assert [(raw.number, raw.fault is None, raw.raw) for raw in raws] == [
        (2, True, b"1,one"), (3, False, b"2,two,three"), (5, False, b"3"), (6, True, b"4,four"),
    ]  # fmt: skip


@pytest.mark.parametrize("broken", ['2,"never closed', '2,"closed" badly'])
def test_a_broken_quote_costs_its_own_line_only(tmp_path, broken):
    rows = [f'{number},"text, {number}"' for number in range(10, 40)]
    file = tmp_path / "a.csv"
    file.write_text("\n".join(["id,text", "1,one", broken, *rows, ""]))
    raws = list(open_place_as_source(file).files[0].read())
    bad = [raw for raw in raws if raw.fault is not None]
    assert [(raw.number, raw.fault.rule) for raw in bad] == [(3, "csv_quotes")]
    assert [raw.record["id"] for raw in raws if raw.fault is None] == ["1", *map(str, range(10, 40))]


def test_a_cell_beyond_the_limit_of_csv_is_read(tmp_path):
    long = "word " * 60_000  # 300,000 characters; the module's own limit is 131,072
    file = write_csv(tmp_path / "a.csv", [("1", "", long)])
    assert documents(read(file))[0][2] == long


def test_a_line_without_end_is_put_aside_in_bounded_memory(tmp_path, monkeypatch):
    from llara_core.data import format_delimited

    monkeypatch.setattr(format_delimited, "LONGEST", 1 << 20)
    file = tmp_path / "a.csv"
    file.write_bytes(b"id,text\n1,one\n2," + b"x" * (3 << 20) + b"\n3,three\n")
    raws = list(open_place_as_source(file).files[0].read())
    assert [(raw.number, raw.fault and raw.fault.rule) for raw in raws] == [
        (2, None),
        (3, "row_length"),
        (4, None),
    ]
    assert raws[1].size == (3 << 20) + 3 and len(raws[1].raw) <= 1 << 20


def test_bytes_that_are_no_utf8_cost_their_row_only(tmp_path):
    file = tmp_path / "a.csv"
    file.write_bytes(b"id,text\n1,caf\xe9\n2,fine\n")
    raws = list(open_place_as_source(file).files[0].read())
    assert raws[0].fault == ("valid_utf8", "not valid UTF-8 (byte 0xe9)") and raws[1].record["text"] == "fine"


def test_utf_16_is_told(tmp_path):
    (tmp_path / "a.csv").write_bytes("id,text\n1,one\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"a\.csv:1: not valid UTF-8: it is UTF-16, as spreadsheets"):
        read(tmp_path / "a.csv")


def test_a_cut_off_file_gives_its_rows_first(tmp_path):
    import random

    noise = random.Random(0)
    rows = [(str(n), "", " ".join(str(noise.random()) for _ in range(50))) for n in range(2000)]
    packed = PACKERS[".gz"](write_csv(tmp_path / "a.csv", rows).read_bytes())
    file = tmp_path / "b.csv.gz"
    file.write_bytes(packed[: len(packed) // 2])
    raws = list(open_place_as_source(file).files[0].read())
    assert raws[-1].fault.rule == "readable" and "cut off" in raws[-1].fault.reason
    assert len(raws) > 500 and all(raw.fault is None for raw in raws[:-1])
    with pytest.raises(DataError, match=r"b\.csv\.gz: cannot be read after row"):
        read(file)


def test_a_folder_of_tables_is_a_collection(tmp_path):
    (tmp_path / "c" / "qrels").mkdir(parents=True)
    write_csv(tmp_path / "c" / "corpus.csv")
    write_csv(
        tmp_path / "c" / "queries.csv", [("q1", "what flows"), ("q2", "what is woven")], ("id", "query")
    )
    write_csv(
        tmp_path / "c" / "qrels" / "test.csv", [("q1", "7", "2"), ("q2", "9", "1")], ("qid", "docid", "rel")
    )
    collection = read_both(tmp_path / "c", tmp_path / "out")
    assert collection.judgements("test") == {"q1": {"7": 2}, "q2": {"9": 1}}
    assert collection.split_queries("test")[1] == ["what flows", "what is woven"]
    assert read(tmp_path / "c", corpus_only=True).queries.num_rows == 0


def test_parquet_shards_groups_and_a_null(tmp_path):
    for shard, ids in enumerate((["a", "b"], ["c"])):
        columns = {
            "id": ids,
            "text": ["x"] * len(ids),
            "group": ["g"] * len(ids),
            "position": range(len(ids)),
        }
        (tmp_path / "p").mkdir(exist_ok=True)
        shards = pa.table({name: list(values) for name, values in columns.items()})
        pq.write_table(shards, tmp_path / "p" / f"train-{shard}.parquet")
    assert table(read_both(tmp_path / "p", tmp_path / "out").corpus)[1:] == [
        ("b", "", "x", "g", 1), ("c", "", "x", "g", 0),
    ]  # fmt: skip
    file = tmp_path / "null.parquet"
    pq.write_table(pa.table({"id": ["a", "b"], "text": ["x", None]}), file)
    with pytest.raises(DataError, match=r"null\.parquet:2: expected a string under 'text', got None"):
        read(file)
    raw = list(open_place_as_source(file).files[0].read())[1]
    assert json.loads(raw.raw) == {"id": "b", "text": None}  # what a person mends


def test_parquet_that_is_packed_or_none(tmp_path):
    pq.write_table(pa.table({"id": ["a"], "text": ["x"]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet.zst").write_bytes(PACKERS[".zst"]((tmp_path / "a.parquet").read_bytes()))
    assert documents(read(tmp_path / "b.parquet.zst")) == [("a", "", "x")]
    (tmp_path / "c.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(DataError, match=r"c\.parquet: cannot be read as Parquet"):
        read(tmp_path / "c.parquet")


def test_tables_in_a_store(tmp_path):
    import fsspec

    place = "memory://llara-tables/notes.csv.xz"
    with fsspec.open(place, "wb") as stream:
        stream.write(PACKERS[".xz"](write_csv(tmp_path / "a.csv").read_bytes()))
    source = open_place_as_source(place)
    assert source.facts["place"] == place and source.name == "notes"
    assert documents(strict_collection(source)) == ROWS
