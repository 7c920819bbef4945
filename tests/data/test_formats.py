"""BEIR folders: what is read, what is refused and where the message points."""

from __future__ import annotations

import gzip
import json
import shutil

import pytest

from llara_core.config import CollectionSettings
from llara_core.data.formats import (
    load_collection,
    open_collection,
    read_beir,
    source_fingerprint,
    write_beir,
)
from llara_core.errors import ConfigError, DataError


def spoil(folder, name, row, text):
    """Put ``text`` in the place of a 1-based row."""
    lines = (folder / name).read_bytes().split(b"\n")
    lines[row - 1] = text if isinstance(text, bytes) else text.encode()
    (folder / name).write_bytes(b"\n".join(lines))


def pack(folder):
    for file in [*folder.glob("*.jsonl"), *folder.glob("qrels/*.tsv")]:
        with gzip.open(f"{file}.gz", "wb") as stream:
            stream.write(file.read_bytes())
        file.unlink()
    return folder


def test_reads_everything(beir_folder):
    collection = read_beir(beir_folder)
    assert collection.name == "tiny"
    assert (collection.corpus.num_rows, collection.queries.num_rows) == (24, 16)
    assert {split: table.num_rows for split, table in collection.qrels.items()} == {"test": 16, "train": 8}
    assert collection.corpus_ids[:2] == ["volcano-0", "volcano-1"]
    assert collection.passages[0].startswith("Volcano Part 0 about a volcano. lava flows")
    assert collection.corpus["line"].to_pylist() == list(range(1, 25))
    assert collection.judgements("test")["test-comet"] == {"comet-1": 2, "comet-2": 1}
    assert collection.qrels["test"]["line"][0].as_py() == 2  # below the header
    assert collection.files["qrels/test"] == str(beir_folder / "qrels" / "test.tsv")


def test_packed_folder_is_the_same(beir_folder, tmp_path):
    plain = read_beir(beir_folder)
    packed = read_beir(pack(shutil.copytree(beir_folder, tmp_path / "packed")))
    assert packed.content_hash == plain.content_hash
    assert packed.files["corpus"].endswith("corpus.jsonl.gz")


def test_written_folder_reads_back_the_same(beir_folder, tmp_path):
    rows = [
        {
            "_id": "a",
            "title": "",
            "text": "line\u2028separator \u0085 and \x0c stay",
            "metadata": {"group": "g", "position": 2},
        },
        {"_id": "b", "text": "no title, « quotes » and 日本語"},
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (beir_folder / "corpus.jsonl").write_bytes(text.encode())
    collection = read_beir(beir_folder)
    again = read_beir(write_beir(collection, tmp_path / "copy"))
    assert again.content_hash == collection.content_hash
    assert again.corpus["text"].to_pylist() == [row["text"] for row in rows]
    assert again.corpus["group"].to_pylist() == ["g", None]
    assert again.corpus["position"].to_pylist() == [2, None]
    assert again.corpus["title"].to_pylist() == ["", ""]


def test_write_refuses_a_foreign_folder(beir_folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match="holds something else"):
        write_beir(read_beir(beir_folder), tmp_path / "mine")


def test_tolerates_what_publishers_do(beir_folder):
    (beir_folder / "corpus.jsonl").write_bytes(
        b'\xef\xbb\xbf{"_id": 7, "title": null, "text": "number as id", "metadata": {"group": {"x": 1}}}\r\n'
        b'\n{"_id": "8", "text": "after a blank line", "url": "ignored", "metadata": []}'
    )
    (beir_folder / "qrels" / "test.tsv").write_bytes(b"test-comet\t7\t1\r\ntest-comet\t8\t1.0\r\n")
    collection = read_beir(beir_folder)
    assert collection.corpus.drop_columns(["text"]).to_pylist() == [
        {"_id": "7", "title": "", "group": None, "position": None, "line": 1},
        {"_id": "8", "title": "", "group": None, "position": None, "line": 3},
    ]
    # No header: the first row is a judgement, not lost.
    assert collection.judgements("test") == {"test-comet": {"7": 1, "8": 1}}


BAD_ROWS = [
    ("corpus.jsonl", 3, '{"_id": "x", "text": "cut', "valid_json", "malformed JSON"),
    ("corpus.jsonl", 24, '{"_id": "x"} trailing', "valid_json", "malformed JSON"),
    ("corpus.jsonl", 1, '["a", "list"]', "json_object", "got list"),
    ("corpus.jsonl", 2, '{"title": "t", "text": "no id"}', "has_id", "'_id', got None"),
    ("corpus.jsonl", 2, '{"_id": true, "text": "no id"}', "has_id", "'_id', got True"),
    ("corpus.jsonl", 5, '{"_id": "x", "title": "t"}', "has_text", "'text', got None"),
    ("corpus.jsonl", 5, '{"_id": "x", "title": 3, "text": "t"}', "has_text", "'title', got 3"),
    ("corpus.jsonl", 6, '{"_id": "x", "text": "half \\ud800 pair"}', "valid_utf8", "surrogate"),
    ("corpus.jsonl", 6, b'{"_id": "x", "text": "caf\xe9"}', "valid_utf8", "0xe9"),
    ("corpus.jsonl", 4, '{"_id": 1' + "0" * 5000 + "}", "valid_json", "malformed JSON"),
    ("corpus.jsonl", 4, "[" * 100_000, "valid_json", "malformed JSON"),
    ("queries.jsonl", 9, '{"_id": "q", "text": ["a"]}', "has_text", "got ['a']"),
    ("qrels/test.tsv", 4, "test-comet comet-1 1", "qrels_columns", "got 1"),
    ("qrels/test.tsv", 4, "test-comet\t0\tcomet-1\t1", "qrels_columns", "got 4"),
    ("qrels/test.tsv", 4, "test-comet\tcomet-1\thigh", "grades_in_range", "got 'high'"),
    ("qrels/test.tsv", 4, "test-comet\tcomet-1\t0.5", "grades_in_range", "got '0.5'"),
    ("qrels/test.tsv", 4, "test-comet\tcomet-1\t9999999999", "grades_in_range", "got '9999999999'"),
]


@pytest.mark.parametrize(("name", "row", "text", "rule", "said"), BAD_ROWS)
def test_bad_row_is_named_by_file_row_and_rule(beir_folder, name, row, text, rule, said):
    spoil(beir_folder, name, row, text)
    with pytest.raises(DataError) as caught:
        read_beir(beir_folder)
    error = caught.value
    assert (error.file, error.row, error.rule) == (beir_folder / name, row, rule)
    assert f"{beir_folder / name}:{row}: " in str(error) and said in str(error) and f"[{rule}]" in str(error)


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_missing_file_is_named(beir_folder, name):
    (beir_folder / name).unlink()
    if name.startswith("qrels"):
        (beir_folder / "qrels" / "train.tsv").unlink()
    with pytest.raises(DataError) as caught:
        read_beir(beir_folder)
    assert caught.value.rule == "file_exists"
    assert caught.value.file in (beir_folder / name, beir_folder / "qrels")


def test_missing_folder_and_file_instead_of_folder(beir_folder):
    with pytest.raises(DataError, match="no such folder"):
        read_beir(beir_folder / "nope")
    with pytest.raises(DataError, match="it is a file"):
        read_beir(beir_folder / "corpus.jsonl")


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_empty_corpus_is_refused(beir_folder, content):
    (beir_folder / "corpus.jsonl").write_bytes(content)
    with pytest.raises(DataError, match="corpus is empty") as caught:
        read_beir(beir_folder)
    assert caught.value.file == beir_folder / "corpus.jsonl"


@pytest.mark.parametrize("damage", [lambda raw: raw[:-30], lambda raw: b"plain text, not gzip"])
def test_damaged_gzip_is_named(beir_folder, damage):
    pack(beir_folder)
    file = beir_folder / "corpus.jsonl.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match=r"cannot be read|its bytes are not") as caught:
        read_beir(beir_folder)
    assert caught.value.file == file


def test_corpus_only_needs_nothing_else(beir_folder):
    (beir_folder / "queries.jsonl").unlink()
    shutil.rmtree(beir_folder / "qrels")
    collection = read_beir(beir_folder, corpus_only=True)
    assert collection.corpus.num_rows == 24 and collection.queries.num_rows == 0 and collection.qrels == {}


def test_open_and_load_find_the_kind_of_folder(beir_folder, tmp_path, monkeypatch):
    collection = open_collection(beir_folder, "named")
    assert collection.name == "named"
    saved = open_collection(collection.save(tmp_path / "saved"))
    assert saved.content_hash == collection.content_hash and saved.name == "named"
    monkeypatch.setenv("LLARA_TEST_FOLDER", str(tmp_path))
    settings = CollectionSettings(source="${LLARA_TEST_FOLDER}/tiny", name="own")
    assert load_collection(settings).name == "own"
    monkeypatch.delenv("LLARA_TEST_FOLDER")
    with pytest.raises(ConfigError, match="not set"):
        load_collection(settings)


def test_fingerprint_follows_the_bytes(beir_folder):
    settings = CollectionSettings(source=str(beir_folder))
    before = source_fingerprint(settings)
    assert source_fingerprint(settings) == before and len(before) == 64
    (beir_folder / "notes.txt").write_text("no part of the collection")
    assert source_fingerprint(settings) == before
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        with (beir_folder / name).open("ab") as stream:
            stream.write(b"\n")
        after = source_fingerprint(settings)
        assert after != before
        before = after
