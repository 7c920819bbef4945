"""Which collections a list of names, folders and zips means."""

from __future__ import annotations

import zipfile

import pytest

from llara_core.config import CollectionSettings
from llara_core.errors import DataError
from llara_core.evaluation.beir_places import places
from tests.conftest import write_tiny_beir


def test_sets_are_looked_for_below_the_root(tmp_path, monkeypatch):
    write_tiny_beir(tmp_path / "scifact")
    with zipfile.ZipFile(tmp_path / "nfcorpus.zip", "w") as packed:
        packed.writestr("nfcorpus/corpus.jsonl", "")
    listed = places(sets=["scifact", "nfcorpus"], root=tmp_path)
    assert [(one.name, one.source, one.split) for one in listed] == [
        ("scifact", str(tmp_path / "scifact"), "test"),
        ("nfcorpus", str(tmp_path / "nfcorpus.zip"), "test"),
    ]
    assert listed[0].protocol["identical_ids"] == "keep" and listed[0].expected.documents == 5183
    with pytest.raises(DataError, match=r"neither a folder arguana nor arguana.zip here"):
        places(sets=["arguana"], root=tmp_path)
    monkeypatch.setenv("LLARA_BEIR", str(tmp_path))
    assert places(["beir:scifact"])[0].source == str(tmp_path / "scifact")
    monkeypatch.delenv("LLARA_BEIR")
    assert places(["beir:msmarco"])[0].source == "BeIR/msmarco"
    assert (
        places(["beir:msmarco"])[0].split == "dev"
        and places(["beir:msmarco"], split="test")[0].split == "test"
    )


def test_cqadupstack_is_twelve_collections(tmp_path):
    for forum in ("android", "wordpress"):
        write_tiny_beir(tmp_path / "cqadupstack" / forum)
    for listed in (places(sets=["cqadupstack"], root=tmp_path), places([str(tmp_path / "cqadupstack")])):
        assert len(listed) == 12 and {one.group for one in listed} == {"cqadupstack"}
        assert listed[0].name == "cqadupstack-android"
        assert listed[0].source == str(tmp_path / "cqadupstack" / "android")
    with zipfile.ZipFile(tmp_path / "cqadupstack.zip", "w") as packed:
        packed.writestr("cqadupstack/android/corpus.jsonl", "")
    zipped = places([str(tmp_path / "cqadupstack.zip")])
    assert zipped[-1].source == str(tmp_path / "cqadupstack.zip" / "cqadupstack" / "wordpress")
    assert places(["beir:cqadupstack"])[3].source == "mteb/cqadupstack-gis"


def test_one_forum_alone_is_a_row_of_its_own(tmp_path):
    write_tiny_beir(tmp_path / "cqadupstack-gis")
    (only,) = places([str(tmp_path / "cqadupstack-gis")])
    assert only.name == "cqadupstack-gis" and only.group == ""


def test_folders_keep_their_names(beir_folder, tmp_path, monkeypatch):
    from llara_core.data.formats import open_collection

    saved = open_collection(beir_folder, "kept").save(tmp_path / "saved")
    listed = places([str(beir_folder), str(saved), "pycode", "hf:mteb/scidocs"], default_split="dev")
    assert [one.name for one in listed] == ["tiny", "kept", "pycode", "scidocs"]
    assert [one.split for one in listed] == ["dev", "dev", "dev", "test"]
    assert listed[0].protocol == {}  # nothing is known of it: the collection decides once it is read
    monkeypatch.setenv("LLARA_TEST", str(tmp_path))
    assert places(["$LLARA_TEST/tiny"])[0].name == "tiny"
    settings = listed[3].settings(CollectionSettings())
    assert (settings.source, settings.name, settings.unresolved_share) == ("hf:mteb/scidocs", "scidocs", 0.01)


def test_two_collections_of_one_name_are_refused(beir_folder, tmp_path):
    twin = write_tiny_beir(tmp_path / "other" / "tiny")
    with pytest.raises(DataError, match="two of the collections are called 'tiny'"):
        places([str(beir_folder), str(twin)])


def test_the_fingerprint_is_of_the_bytes(beir_folder):
    (place,) = places([str(beir_folder)])
    before = place.fingerprint(CollectionSettings())
    with (beir_folder / "corpus.jsonl").open("a") as stream:
        stream.write("\n")
    assert place.fingerprint(CollectionSettings()) != before
