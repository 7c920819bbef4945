"""Exports are whole or not at all, say where they come from, and refuse what they should."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llara_core import __version__
from llara_core.errors import ConfigError, DataError, LlaraError, ModelError
from llara_core.files import sha256
from llara_core.model.bundle import read_bundle
from llara_core.model.export import RECORD, ExportOptions, export_bundle, verify_export
from llara_core.model.retriever import Retriever
from tests.model.exports import card_code


def test_merged_is_the_bundle_bit_by_bit(base: Path, tmp_path: Path) -> None:
    record = export_bundle(base, "merged", tmp_path / "out")
    for name in ("model.safetensors", "tokenizer.json", "config.json", "llara.json"):
        assert sha256(tmp_path / "out" / name) == sha256(base / name)
    assert read_bundle(tmp_path / "out").fingerprint == record["fingerprint"]
    retriever = Retriever.from_pretrained(tmp_path / "out", "cpu")
    expected = [retriever.encode_queries(["open a file"])[0], retriever.encode_passages(["x y " * 90])[0]]
    embed = card_code(tmp_path / "out")["embed"]
    found = [embed("open a file", "query"), embed("x y " * 90, "passage")]
    for left, right in zip(found, expected, strict=True):
        assert float(left.detach().numpy() @ right) > 0.99999


def test_record_names_origin_and_every_file(base: Path, tmp_path: Path) -> None:
    export_bundle(base, "merged", tmp_path / "out")
    record = json.loads((tmp_path / "out" / RECORD).read_text())
    assert record["fingerprint"] == read_bundle(base).fingerprint
    assert record["llara"] == __version__ and record["target"] == "merged"
    names = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert set(record["files"]) == names - {RECORD}
    assert verify_export(tmp_path / "out") == record
    (tmp_path / "out" / "README.md").write_text("other")
    with pytest.raises(ModelError, match=r"README\.md"):
        verify_export(tmp_path / "out")


def test_nothing_is_overwritten_unasked(base: Path, tmp_path: Path) -> None:
    export_bundle(base, "merged", tmp_path / "out")
    with pytest.raises(DataError, match="--force"):
        export_bundle(base, "merged", tmp_path / "out")
    export_bundle(base, "merged", tmp_path / "out", force=True)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match="something else"):  # not even with force: it is no export
        export_bundle(base, "merged", mine, force=True)
    assert [path.name for path in mine.iterdir()] == ["letter.txt"]
    with pytest.raises(ConfigError, match="is the bundle"):
        export_bundle(base, "merged", base, force=True)
    with pytest.raises(ConfigError, match="lies in it"):
        export_bundle(base, "merged", base / "inside")
    with pytest.raises(ConfigError, match="holds it"):
        export_bundle(base, "merged", base.parent, force=True)


def test_a_failure_leaves_the_earlier_export(base: Path, tmp_path: Path) -> None:
    export_bundle(base, "merged", tmp_path / "out")
    before = sha256(tmp_path / "out" / RECORD)

    def fails(folder: Path, bundle: object) -> None:
        raise LlaraError("judging failed")

    with pytest.raises(LlaraError, match="judging failed"):
        export_bundle(base, "merged", tmp_path / "out", force=True, measure=fails)  # type: ignore[arg-type]
    assert sha256(tmp_path / "out" / RECORD) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_damaged_bundles_are_refused(base: Path, tmp_path: Path) -> None:
    export_bundle(base, "merged", tmp_path / "copy")  # a bundle too
    weights = tmp_path / "copy" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        export_bundle(tmp_path / "copy", "sentence-transformers", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_options_that_do_not_fit(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'merged'"):
        export_bundle(base, "merge", tmp_path / "out")
    with pytest.raises(ConfigError, match="--int8"):
        export_bundle(base, "merged", tmp_path / "out", options=ExportOptions(int8=True))
    assert not (tmp_path / "out").exists()
