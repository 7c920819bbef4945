"""What was put aside is mended and fed back: the result is what a clean source would have given."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llara_core.data.ingest import ingest
from llara_core.data.quarantine import open_quarantine, write_repair
from llara_core.data.repair import read_edits
from llara_core.data.strict import strict_collection
from llara_core.data_settings import IngestSettings
from llara_core.errors import DataError
from tests.data.test_ingest import LENIENT
from tests.oracles.memory_source import document, memory_source, small

SPOILS = {
    "cut": lambda line: line[: len(line) // 2],
    "bytes": lambda line: line.replace(b"t", b"\xff", 1),
    "no object": lambda _line: b"[1, 2]",
    "bidi": lambda line: json.dumps(json.loads(line) | {"text": "a\u202eb"}).encode(),
    "control": lambda line: json.dumps(json.loads(line) | {"text": "a\x00b"}).encode(),
    "number": lambda line: json.dumps(json.loads(line) | {"text": 7}).encode(),
    "no id": lambda line: json.dumps({"text": json.loads(line).get("text", "x")}).encode(),
    "html": lambda line: json.dumps(json.loads(line) | {"text": "<p><br></p>" * 9}).encode(),
}


def edited(file, change):
    """The lines of a repair file, each changed by a function of its place and values."""
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    file.write_text("".join(json.dumps(change(one)) + "\n" for one in lines), "utf-8")
    return lines


@settings(max_examples=40)
@given(
    st.sets(st.tuples(st.sampled_from(["corpus", "queries"]), st.integers(0, 7)), max_size=6),
    st.lists(st.sampled_from(sorted(SPOILS)), min_size=6, max_size=6),
    st.booleans(),
)
def test_repair_with_the_originals_gives_the_clean_collection(places, kinds, as_record):
    clean = small(documents=8, queries=8)
    rows = {name: [json.dumps(row).encode() for row in one] for name, one in clean.items()}
    originals = {}
    for (name, row), kind in zip(sorted(places), kinds, strict=False):
        originals[f"{name}.jsonl", row + 1] = clean[name][row]
        rows[name][row] = SPOILS[kind](rows[name][row])
    with tempfile.TemporaryDirectory() as name:
        folder, file = Path(name) / "out", Path(name) / "edit.jsonl"
        ingest(memory_source(**rows), folder, LENIENT, refuse=False)
        assert write_repair(folder, file) >= len(originals)  # judgements of what is missing wait too

        def mend(values):
            original = originals.get((values["file"], values["row"]))
            if original is None:
                return values
            if as_record or "record" in values:
                return {**{k: v for k, v in values.items() if k != "raw"}, "record": original}
            return {**values, "raw": json.dumps(original)}

        edited(file, mend)
        repaired = ingest(memory_source(**rows), folder, LENIENT, edits=read_edits(file))
        assert repaired.collection.content_hash == strict_collection(memory_source(**clean)).content_hash
        assert repaired.counts["quarantined"] == 0 and repaired.quarantine.num_rows == 0
        assert (
            repaired.collection.corpus.to_pylist()
            == strict_collection(memory_source(**clean)).corpus.to_pylist()
        )


@pytest.fixture
def spoiled(tmp_path):
    """A source with two bad rows, ingested, and its repair file."""
    rows = small()
    rows["corpus"] += [document("x", "a\u202eb"), b'{"_id": "y", "text": ']
    ingest(memory_source(**rows), tmp_path / "out", LENIENT)
    assert write_repair(tmp_path / "out", tmp_path / "edit.jsonl") == 2
    return rows, tmp_path / "out", tmp_path / "edit.jsonl"


def again(rows, folder, file, **options):
    return ingest(memory_source(**rows), folder, LENIENT, edits=read_edits(file, **options))


def test_untouched_rows_stay_aside(spoiled):
    done = again(*spoiled)
    assert [(row["row"], row["rule"]) for row in done.quarantine.to_pylist()] == [
        (10, "valid_json"),
        (9, "bidi_controls"),
    ]


def test_still_bad_rows_stay_with_their_new_reason(spoiled):
    edited(
        spoiled[2],
        lambda one: (
            {**one, "record": {"_id": "d0", "text": "other"}}
            if one["row"] == 9
            else {**one, "raw": "not yet"}
        ),
    )
    done = again(*spoiled)
    assert {row["row"]: row["rule"] for row in done.quarantine.to_pylist()} == {
        9: "unique_ids",
        10: "valid_json",
    }
    assert "another text" in next(row["reason"] for row in done.quarantine.to_pylist() if row["row"] == 9)


def test_rows_are_dropped_only_when_that_is_said(spoiled):
    edited(spoiled[2], lambda one: {**one, "drop": True} if one["row"] == 9 else one)
    done = again(*spoiled)
    assert done.counts["dropped"] == 1 and done.counts["quarantined"] == 2
    assert {row["row"]: row["action"] for row in done.quarantine.to_pylist()} == {9: "drop", 10: "quarantine"}
    done = again(*spoiled, drop_unmended=True)
    assert done.counts["dropped"] == 2


def test_dropped_rows_stop_nothing(spoiled):
    rows, folder, file = spoiled
    edited(file, lambda one: {**one, "drop": True})
    done = ingest(memory_source(**rows), folder, IngestSettings(repaired=str(file)))
    assert done.collection.corpus.num_rows == 8 and done.counts["dropped"] == 2


def test_a_source_that_changed_since_is_refused(spoiled):
    rows, folder, file = spoiled
    edited(file, lambda one: one)
    rows["corpus"].insert(0, document("new"))
    with pytest.raises(DataError, match=r"changed since.*changed_since"):
        again(rows, folder, file)
    del rows["corpus"][5:]
    with pytest.raises(DataError, match=r"has no such row.*changed_since"):
        again(rows, folder, file)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "not JSON"),
        ("[]", "expected a JSON object, got list"),
        ('{"file": "corpus.jsonl"}', "say which row it is"),
        ('{"file": "a", "row": 1, "source": "x", "drop": "yes"}', "'drop' is true or false"),
        ('{"file": "a", "row": 1, "source": "x"}', "under 'record' or as text under 'raw'"),
    ],
)
def test_broken_repair_files_are_named(tmp_path, line, message):
    (tmp_path / "edit.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=message) as caught:
        read_edits(tmp_path / "edit.jsonl")
    assert caught.value.row == 1


def test_missing_and_doubled_lines(spoiled, tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_edits(tmp_path / "none.jsonl")
    spoiled[2].write_text(spoiled[2].read_text() * 2)
    with pytest.raises(DataError, match="is in line 1 already"):
        read_edits(spoiled[2])


def test_no_quarantine_here(tmp_path):
    with pytest.raises(DataError, match="no quarantine here"):
        open_quarantine(tmp_path)
