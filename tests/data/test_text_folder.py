"""Unlabelled text from files of every kind."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from llara_core.config import PycodeSettings, TextSettings
from llara_core.data.passages import adaptation_rows
from llara_core.data.text_folder import load_text, read_text, text_files, text_fingerprint
from llara_core.errors import ConfigError, DataError
from tests.conftest import write_jsonl


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "texts"
    write_jsonl(
        root / "b.jsonl",
        [{"title": "Lava", "text": "It is hot."}, {"id": 7, "text": " "}, {"text": "Third."}],
    )
    write_jsonl(root / "AA" / "wiki_00", [{"id": "1", "url": "u", "title": "Ice", "text": "It is cold."}])
    with gzip.open(root / "c.jsonl.gz", "wt", encoding="utf-8") as packed:
        packed.write('{"text": "Packed."}\n')
    (root / "a.md").write_text("\ufeffOne. Two.", encoding="utf-8")
    (root / "d.txt.gz").write_bytes(gzip.compress(b"Packed too."))
    (root / "picture.png").write_bytes(b"\x89PNG")
    (root / ".hidden.txt").write_text("not read")
    return root


def test_every_kind_is_read_in_the_order_of_the_paths(folder: Path) -> None:
    text = read_text(folder)
    assert text.name == "texts"
    assert text.corpus_ids == ["AA/wiki_00:1", "a.md", "b.jsonl:1", "b.jsonl:3", "c.jsonl.gz:1", "d.txt.gz"]
    assert text.passages == [
        "Ice It is cold.", "One. Two.", "Lava It is hot.", "Third.", "Packed.", "Packed too.",
    ]  # fmt: skip
    assert text.queries.num_rows == 0 and not text.qrels
    assert adaptation_rows(text)["text"].to_pylist()[0] == "Ice It"


def test_a_single_file_is_a_source_too(folder: Path) -> None:
    text = read_text(folder / "c.jsonl.gz")
    assert (text.name, text.corpus_ids) == ("c", ["c.jsonl.gz:1"])
    assert read_text(folder / "c.jsonl.gz", "mine").name == "mine"


def test_the_fingerprint_follows_bytes_and_paths(folder: Path) -> None:
    settings = TextSettings(source=str(folder))
    first = text_fingerprint(settings)
    (folder / "picture.png").write_bytes(b"another")
    assert text_fingerprint(settings) == first  # not read, so it does not count
    (folder / "a.md").rename(folder / "z.md")
    second = text_fingerprint(settings)
    (folder / "z.md").write_text("One. Three.", encoding="utf-8")
    assert len({first, second, text_fingerprint(settings)}) == 3


def test_of_a_beir_folder_only_the_corpus_is_text(beir_folder: Path) -> None:
    settings = TextSettings(source=str(beir_folder), name="mine")
    text = load_text(settings)
    assert text.name == "mine" and text.corpus.num_rows == 24
    assert text.queries.num_rows == 0 and not text.qrels
    assert text_fingerprint(settings) == text_fingerprint(TextSettings(source=str(beir_folder)))


def test_the_built_in_text_has_no_labels() -> None:
    pycode = PycodeSettings(packages=("peft",), max_functions=40, test_queries=5, dev_queries=0)
    text = load_text(TextSettings(pycode=pycode))
    assert text.name == "pycode" and text.corpus.num_rows >= 40
    assert text.queries.num_rows == 0 and not text.qrels


@pytest.mark.parametrize(
    ("line", "rule"), [('{"title": "no text"}', "has_text"), ("[1]", "json_object"), ("{", "valid_json")]
)
def test_a_broken_row_is_named(folder: Path, line: str, rule: str) -> None:
    with (folder / "b.jsonl").open("a", encoding="utf-8") as target:
        target.write(line + "\n")
    with pytest.raises(DataError, match=rf"b\.jsonl:4: .*\[{rule}\]"):
        read_text(folder)


def test_bytes_that_are_no_utf8_are_named(folder: Path) -> None:
    (folder / "bad.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"bad\.txt.*0xe9 at offset 3"):
        read_text(folder)


def test_sources_without_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        text_files(tmp_path / "nowhere")
    (tmp_path / "table.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match="no text here; expected"):
        text_files(tmp_path)
    (tmp_path / "empty.txt").write_text("  \n")
    with pytest.raises(DataError, match="no document holds any text"):
        read_text(tmp_path)
    with pytest.raises(ConfigError, match=r"text\.source: .*not set"):
        load_text(TextSettings(source="${LLARA_NOT_SET}/x"))
