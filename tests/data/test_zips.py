"""Zips of BEIR: read where they lie, and what a hostile or broken one leads to."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from llara_core.data import zips
from llara_core.data.formats import has_judgements, open_collection, path_fingerprint, read_beir
from llara_core.data.places import open_place
from llara_core.data.zips import split_zip, zip_members
from llara_core.errors import DataError
from tests.conftest import write_tiny_beir


def pack(folder: Path, archive: Path, prefix: str = "tiny/") -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                packed.write(file, prefix + str(file.relative_to(folder)))
    return archive


@pytest.mark.parametrize("prefix", ["tiny/", "", "beir/sets/tiny/"])
def test_a_zip_is_the_folder_it_holds(beir_folder, tmp_path, prefix):
    archive = pack(beir_folder, tmp_path / "other.zip", prefix)
    packed = open_collection(archive)
    assert packed.content_hash == read_beir(beir_folder).content_hash
    assert packed.name == ("tiny" if prefix else "other")
    assert packed.files["qrels/test"] == str(archive / prefix / "qrels" / "test.tsv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.zip", "tiny"]  # nothing was unpacked


def test_a_corpus_can_be_read_alone_and_packed_twice(beir_folder, tmp_path):
    import gzip

    raw = (beir_folder / "corpus.jsonl").read_bytes()
    (beir_folder / "corpus.jsonl").unlink()
    (beir_folder / "queries.jsonl").unlink()
    shutil.rmtree(beir_folder / "qrels")
    (beir_folder / "corpus.jsonl.gz").write_bytes(gzip.compress(raw))
    archive = pack(beir_folder, tmp_path / "a.zip")
    assert open_collection(archive, corpus_only=True).corpus.num_rows == 24
    with pytest.raises(DataError, match=r"missing file; a BEIR folder has queries.jsonl") as caught:
        open_collection(archive)
    assert caught.value.file == archive / "tiny" / "queries.jsonl"


def test_one_of_several_collections_is_named_by_its_place(tmp_path):
    archive = tmp_path / "cqadupstack.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for forum in ("android", "gis"):
            folder = write_tiny_beir(tmp_path / forum)
            for file in sorted(folder.rglob("*.*")):
                packed.write(file, f"cqadupstack/{forum}/{file.relative_to(folder)}")
    assert open_collection(archive / "cqadupstack" / "gis").name == "gis"
    with pytest.raises(DataError, match=r"holds 2 collections: name one of them, e.g. .*cqadupstack/android"):
        open_collection(archive)
    with pytest.raises(DataError, match=r"no corpus.jsonl in this zip"):
        open_collection(archive / "cqadupstack" / "tex")


def test_a_bad_row_is_named_inside_the_zip(beir_folder, tmp_path):
    with (beir_folder / "corpus.jsonl").open("a") as stream:
        stream.write('{"_id": "x", "text": "cut')
    archive = pack(beir_folder, tmp_path / "tiny.zip")
    with pytest.raises(DataError, match="malformed JSON") as caught:
        open_collection(archive)
    assert (caught.value.file, caught.value.row) == (archive / "tiny" / "corpus.jsonl", 25)


def test_names_that_lead_out_are_never_followed(beir_folder, tmp_path):
    archive = pack(beir_folder, tmp_path / "tiny.zip", "../../outside/")
    assert zip_members(archive) == []
    with pytest.raises(DataError, match=r"no corpus\.jsonl in this zip"):
        open_collection(archive)
    absolute = tmp_path / "abs.zip"
    with zipfile.ZipFile(absolute, "w") as packed:
        packed.writestr(zipfile.ZipInfo("/etc/tiny/corpus.jsonl"), '{"_id": "a", "text": "x"}')
    assert zip_members(absolute) == []


def test_a_bomb_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(zips, "_SMALL", 1 << 16)
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("t/corpus.jsonl", b" " * (1 << 20))  # about 1 : 1000
    with pytest.raises(DataError, match=r"claim to become 1,048,576") as caught:
        open_collection(archive, corpus_only=True)
    assert caught.value.rule == "zip_size"


def damaged(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[200:260] = b"\0" * 60  # inside the first member's data: its checksum no longer fits
    path.write_bytes(raw)


def test_damaged_and_cut_off_zips_are_named(beir_folder, tmp_path):
    archive = pack(beir_folder, tmp_path / "tiny.zip")
    cut = tmp_path / "cut.zip"
    cut.write_bytes(archive.read_bytes()[:-300])
    with pytest.raises(DataError, match="cannot be read as a zip"):
        open_collection(cut)
    damaged(archive)
    with pytest.raises(DataError, match="cannot be read"):
        open_collection(archive)
    (tmp_path / "text.zip").write_text("no zip at all")
    with pytest.raises(DataError, match="cannot be read as a zip") as caught:
        path_fingerprint(tmp_path / "text.zip")
    assert caught.value.file == tmp_path / "text.zip"


def test_encrypted_members_are_named(beir_folder, tmp_path):
    archive = pack(beir_folder, tmp_path / "tiny.zip")
    raw = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # set the bit that says "encrypted"
        start = 0
        while (start := raw.find(signature, start)) >= 0:
            raw[start + offset] |= 1
            start += 4
    archive.write_bytes(raw)
    with pytest.raises(DataError, match=r"encrypted"):
        open_collection(archive)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice_is_refused(tmp_path):
    archive = tmp_path / "twice.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("t/corpus.jsonl", '{"_id": "a", "text": "x"}\n')
        packed.writestr("t/corpus.jsonl", '{"_id": "b", "text": "y"}\n')
    with pytest.raises(DataError, match=r"holds 't/corpus.jsonl' twice"):
        open_collection(archive, corpus_only=True)


def test_paths_are_told_apart(tmp_path):
    (tmp_path / "folder.zip").mkdir()
    assert split_zip(tmp_path / "folder.zip" / "corpus.jsonl") is None  # a folder may be called so
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("one/two.txt", "x")
    place = split_zip(tmp_path / "a.zip" / "one" / "two.txt")
    assert place is not None and (place[0].name, str(place[1])) == ("a.zip", "one/two.txt")
    assert open_place(tmp_path / "a.zip" / "one" / "two.txt").read() == b"x"
    with pytest.raises(DataError, match=r"the zip has no one/three\.txt"):
        open_place(tmp_path / "a.zip" / "one" / "three.txt")


def test_the_fingerprint_follows_the_bytes(beir_folder, tmp_path):
    archive = pack(beir_folder, tmp_path / "tiny.zip")
    before = path_fingerprint(archive)
    assert path_fingerprint(archive) == before and len(before) == 64
    with (beir_folder / "queries.jsonl").open("a") as stream:
        stream.write('{"_id": "new", "text": "one more"}\n')
    assert path_fingerprint(pack(beir_folder, tmp_path / "tiny.zip")) != before


def test_judgements_are_told_without_reading(beir_folder, tmp_path):
    assert has_judgements(beir_folder) and has_judgements(Path("hf:BeIR/scifact"))
    archive = pack(beir_folder, tmp_path / "tiny.zip")
    assert has_judgements(archive) and has_judgements(archive / "tiny")
    assert not has_judgements(archive / "other")
    shutil.rmtree(beir_folder / "qrels")
    assert not has_judgements(beir_folder)
    assert not has_judgements(pack(beir_folder, tmp_path / "bare.zip"))
