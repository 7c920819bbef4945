"""What is written down about rows that were put aside or marked."""

from __future__ import annotations

import json

from llara_core.data.quarantine import SCHEMA, QuarantineWriter, open_quarantine, write_repair
from llara_core.data.raw import Raw


def test_rows_are_kept_as_they_were_read(tmp_path):
    with QuarantineWriter(tmp_path / "quarantine") as writer:
        writer.add("corpus", "f", Raw(3, None, b"\xff\x00", None, 2, 17), "valid_utf8", "wrong", "quarantine")
        writer.add(
            "corpus",
            "f",
            Raw(4, {"a": "\ud800", "\0place": "f:4"}, b"{}", None, 2, 20),
            "has_id",
            "none \ud800",
            "drop",
        )
    table = open_quarantine(tmp_path)
    assert table.schema == SCHEMA
    first, second = table.to_pylist()
    assert (first["row"], first["raw"], first["size"], first["offset"]) == (3, b"\xff\x00", 2, 17)
    assert json.loads(second["record"]) == {"a": "\ud800"} and second["reason"] == "none \\ud800"


def test_only_so_many_marked_rows_keep_their_text(tmp_path, monkeypatch):
    monkeypatch.setattr("llara_core.data.quarantine._MARKED_WHOLE", 2)
    with QuarantineWriter(tmp_path) as writer:
        for number in range(1, 6):
            writer.add("corpus", "f", Raw(number, {}, b"{}", None, 2), "mojibake", "x", "flag")
            writer.add("corpus", "f", Raw(number, {}, b"{}", None, 2), "valid_json", "x", "quarantine")
    rows = open_quarantine(tmp_path).to_pylist()
    assert [bool(row["raw"]) for row in rows if row["action"] == "flag"] == [True, True, False, False, False]
    assert all(row["raw"] for row in rows if row["action"] == "quarantine")
    assert write_repair(tmp_path, tmp_path / "a.jsonl") == 5
    assert write_repair(tmp_path, tmp_path / "b.jsonl", flagged=True) == 7


def test_an_untouched_file_holds_what_a_person_needs(tmp_path):
    with QuarantineWriter(tmp_path) as writer:
        writer.add("corpus", "f", Raw(1, {"_id": "\u00e9"}, b"{}", None, 2), "has_text", "why", "quarantine")
        writer.add("corpus", "f", Raw(2, None, b"caf\xe9", None, 4), "valid_utf8", "why", "quarantine")
    write_repair(tmp_path, tmp_path / "edit.jsonl")
    first, second = map(json.loads, (tmp_path / "edit.jsonl").read_text("utf-8").splitlines())
    assert first["record"] == {"_id": "\u00e9"} and "raw" not in first
    assert second["raw"] == "caf\ufffd" and (second["file"], second["row"], second["rule"]) == (
        "f",
        2,
        "valid_utf8",
    )
    assert first["source"] != second["source"]
