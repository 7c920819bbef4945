"""The gates: what is accepted, what is left out of training, and what stops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llara_core.config import CollectionSettings, DuplicateSettings, LeakSettings
from llara_core.data.duplicates import find_duplicates
from llara_core.data.intake import take_in
from llara_core.data.leaks import find_leaks
from llara_core.data.lineage import lineage
from llara_core.data.profile import profile
from llara_core.errors import DataError
from steps import accept as accept_module
from steps import segment as segment_module
from steps.materializers import FolderArtifact
from steps.stored.collection import open_collection
from steps.stored.duplicates import store_duplicates
from steps.stored.ingested import PROFILE, QUARANTINE, open_counts, open_profile, store_ingested
from steps.stored.leaks import adaptation_drops, store_leaks
from steps.stored.subsets import open_subsets
from steps.stored.table import open_table

Made = tuple[FolderArtifact, FolderArtifact, FolderArtifact]


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps run as plain functions, outside of a run."""
    for module in (accept_module, segment_module):
        monkeypatch.setattr(module, "log_metadata", lambda *_: None)


def leaky(folder: Path) -> Path:
    """A test query word for word in training; a document twice; a test query inside a document."""
    lines = (folder / "queries.jsonl").read_text().splitlines()
    tests = [json.loads(line) for line in lines if "test-" in line]
    lines[0] = json.dumps({"_id": "train-volcano", "text": tests[0]["text"]})
    long = "why does the slow green ferry sail past the harbour wall at night when nobody is there to see it"
    lines[-1] = json.dumps({"_id": tests[-1]["_id"], "text": long})
    (folder / "queries.jsonl").write_text("\n".join(lines) + "\n")
    first = json.loads((folder / "corpus.jsonl").read_text().splitlines()[0])
    with (folder / "corpus.jsonl").open("a") as corpus:
        corpus.write(json.dumps({**first, "_id": "copy"}) + "\n")
        corpus.write(
            json.dumps({"_id": "given-away", "title": "", "text": f"They ask {long}, and so do we."}) + "\n"
        )
    return folder


def made(place: Path, tmp_path: Path, policy: str = "mark", action: str = "mark") -> Made:
    pytest.importorskip("rensa")
    folder = tmp_path / "ingested"
    collection = take_in(CollectionSettings(source=str(place)), folder).collection
    ingested = store_ingested(folder, profile(collection), "here")
    repeats = find_duplicates(collection.passages, DuplicateSettings.parse({"policy": policy}, ""))
    found = find_leaks(
        collection, adaptation=collection.passages, settings=LeakSettings.parse({"action": action}, "")
    )
    return ingested, store_duplicates(repeats), store_leaks(found, collection.corpus_ids)


def accepted(parts: Made) -> FolderArtifact:
    artifact: FolderArtifact = accept_module.accept.entrypoint(*parts)
    return artifact


def test_marks_alone_leave_the_same_files(beir_folder: Path, tmp_path: Path) -> None:
    parts = made(leaky(beir_folder), tmp_path)
    artifact = accepted(parts)
    for name in ("corpus.arrow", "queries.arrow", "qrels/train.arrow", PROFILE):
        assert (artifact.path / name).stat().st_ino == (parts[0].path / name).stat().st_ino
    assert QUARANTINE not in artifact.files and QUARANTINE in parts[0].files
    collection = open_collection(artifact)
    assert artifact.facts["data_hash"] == artifact.facts["source_hash"] == collection.content_hash
    assert artifact.content_hash == f"tiny-{collection.content_hash}"


def test_models_will_remember_what_was_found(beir_folder: Path, tmp_path: Path) -> None:
    parts = made(leaky(beir_folder), tmp_path)
    told = lineage(open_collection(accepted(parts)))
    assert told["leaks"]["leaking_queries"] > 0 and told["leaks"]["action"] == "mark"
    assert told["duplicates"]["passages"] == told["documents"]
    assert "leaks" not in open_collection(parts[0]).report  # the files are shared, this one is not


def test_a_broken_row_more_changes_what_was_ingested_and_not_what_is_accepted(
    beir_folder: Path, tmp_path: Path
) -> None:
    before = made(beir_folder, tmp_path / "1")
    with (beir_folder / "queries.jsonl").open("a") as queries:
        queries.write('{"_id": "lone", "text": 5}\n')
    settings = CollectionSettings.parse(
        {
            "source": str(beir_folder),
            "ingest": {"stop_above": None, "rules": {"has_text": {"stop_above": None}}},
        },
        "",
    )
    folder = tmp_path / "2"
    collection = take_in(settings, folder).collection
    ingested = store_ingested(folder, profile(collection), "here")
    assert open_counts(ingested)["quarantined"] == 1
    assert ingested.content_hash != before[0].content_hash
    assert open_profile(ingested) == open_profile(before[0])
    assert accepted((ingested, *before[1:])).content_hash == accepted(before).content_hash


def test_what_the_settings_name_is_left_out_of_training_alone(beir_folder: Path, tmp_path: Path) -> None:
    parts = made(leaky(beir_folder), tmp_path, "keep_first", "drop")
    before, artifact = open_collection(parts[0]), accepted(parts)
    after = open_collection(artifact)
    assert set(before.corpus_ids) - set(after.corpus_ids) == {"copy"}
    assert set(before.judgements("train")) - set(after.judgements("train")) >= {"train-volcano"}
    assert after.judgements("test") == before.judgements("test")
    assert artifact.facts["data_hash"] != artifact.facts["source_hash"] == before.content_hash
    assert json.loads((artifact.path / PROFILE).read_text())["documents"] == before.corpus.num_rows


def test_a_gate_that_says_stop_stops(beir_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leak into training"):
        accepted(made(leaky(beir_folder), tmp_path, action="stop"))


@pytest.mark.parametrize("action", ["mark", "drop"])
def test_adaptation_reads_no_evaluation_query_where_told_so(
    beir_folder: Path, tmp_path: Path, action: str
) -> None:
    parts = made(leaky(beir_folder), tmp_path, action=action)
    assert adaptation_drops(parts[2]) == (["given-away"] if action == "drop" else [])
    table = open_table(segment_module.segment.entrypoint(accepted(parts), parts[2]))
    said = any(
        "slow green ferry" in text for text in table["text"].to_pylist() + table["next_text"].to_pylist()
    )
    assert said == (action == "mark")


def test_subsets_survive_the_store(beir_folder: Path, tmp_path: Path) -> None:
    from llara_core.evaluation.subsets import leak_free_subsets

    parts = made(leaky(beir_folder), tmp_path)
    stored = open_subsets(parts[2])
    expected: dict[str, Any] = leak_free_subsets(open_collection(parts[0]))
    assert {name: marks.tolist() for name, marks in stored.items()} == {
        name: marks.tolist() for name, marks in expected.items()
    }
    assert not stored["no_near_duplicate"].all()
