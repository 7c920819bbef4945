"""What models remember of their data: records, bundle, card, MLflow."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from llara_core.data.lineage import joined, lineage
from llara_core.model.bundle import Bundle, Stage, read_bundle
from llara_core.model.model_card import model_card
from llara_core.model.prompts import TEMPLATES
from tests.model.conftest import collection

REPORT = {
    "format": "hub", "revision": "abc123", "place": "/home/somebody/secret",
    "rows": {"read": 10, "accepted": 8, "quarantined": 2, "flagged": 1, "other": 5},
    "leaks": {"leaking_queries": 3, "evaluation_queries": 9, "split": "test", "action": "mark", "kinds": {}},
    "duplicates": {"repeats": 4, "removed": 0, "examples": ["text of a row"]},
}  # fmt: skip


def test_a_record_has_counts_and_no_rows_or_places() -> None:
    found = lineage(replace(collection(), report=REPORT))
    plain = collection()
    assert found["content_hash"] == plain.content_hash
    assert found["documents"] == plain.corpus.num_rows
    assert found["judgements"] == {split: table.num_rows for split, table in sorted(plain.qrels.items())}
    assert (found["format"], found["revision"]) == ("hub", "abc123")
    assert found["rows"] == {"read": 10, "accepted": 8, "quarantined": 2, "flagged": 1}
    assert found["duplicates"] == {"repeats": 4, "removed": 0}
    assert "secret" not in json.dumps(found) and "text of a row" not in json.dumps(found)


def test_two_versions_of_one_name_are_both_remembered() -> None:
    first = lineage(collection())
    second = {**first, "content_hash": "f" * 64}
    known = joined(joined(joined((), first, "prepare"), first, "finetune"), second, "finetune")
    assert [(one["content_hash"][:4], one["stages"]) for one in known] == [
        (first["content_hash"][:4], ["prepare", "finetune"]),
        ("ffff", ["finetune"]),
    ]


def bundle() -> Bundle:
    return Bundle(
        template=next(iter(TEMPLATES.values())), slot_ids={}, query_length=8, passage_length=8, base_model="x"
    )


def test_a_stage_adds_hash_and_record() -> None:
    record = lineage(replace(collection(), report=REPORT))
    after = bundle().with_stage(Stage("finetune"), data=record)
    assert after.data_hashes == {record["name"]: record["content_hash"]}
    assert after.data[0]["stages"] == ["finetune"]
    assert after.with_stage(Stage("adapt")).data == after.data


def test_the_card_tells_hash_counts_and_remarks() -> None:
    record = lineage(replace(collection(), report=REPORT))
    card = model_card(bundle().with_stage(Stage("finetune", curve=[{"step": 1, "loss": 2.0}]), data=record))
    assert card.startswith("---\nlibrary_name: llara\n")
    assert record["content_hash"] in card
    assert "revision abc123" in card
    assert "10 rows read, 8 accepted, 2 put aside, 1 marked" in card
    assert "3 of 9 queries of test leak into training" in card
    assert "loss 2.0000" in card


def test_hostile_names_are_text_on_the_card() -> None:
    record = {**lineage(collection()), "name": "<script>|\n# head [x](javascript:1)\u202e"}
    card = model_card(bundle().with_stage(Stage("finetune"), data=record))
    assert "<script>" not in card.replace("\\<", "") and "\n# head" not in card
    assert "\u202e" not in card and "](" not in card.replace("\\]", "")
    assert r"\|" in card


def test_bundles_of_older_versions_are_read(tmp_path: Path) -> None:
    values = bundle().to_dict() | {"data_hashes": {"old": "ab" * 32}}
    del values["data"]
    (tmp_path / "llara.json").write_text(json.dumps(values), encoding="utf-8")
    found = read_bundle(tmp_path)
    assert found.data == ()
    assert "ab" * 32 in model_card(found)


def test_the_card_in_the_bundle_follows_its_stages(tmp_path: Path) -> None:
    from llara_core.model.prepare import prepare_base
    from tests.model.conftest import collection as tiny
    from tests.model.conftest import settings

    folder = prepare_base(settings(), tiny(), tmp_path / "base", seed=0)
    found = read_bundle(folder)
    assert found.data[0]["content_hash"] == tiny().content_hash == found.data_hashes[tiny().name]
    assert found.data[0]["stages"] == ["prepare"]
    assert tiny().content_hash in (folder / "README.md").read_text(encoding="utf-8")


def test_mlflow_knows_the_content_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    from steps import tracking

    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    try:
        record = lineage(collection())
        with mlflow.start_run() as run:
            for context, place in (("training", "hf://a/b"), ("evaluation", "pycode")):
                name = record["name"] + ("/test" if context == "evaluation" else "")
                tracking.log_dataset(name, record["content_hash"], place, context=context, facts=record)
        inputs = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
        for one in inputs:
            tags = {tag.key: tag.value for tag in one.tags}
            assert tags["mlflow.data.context"] in ("training", "evaluation")
            assert tags["content_hash"] == record["content_hash"]
            assert one.dataset.digest == record["content_hash"][:36]
            assert json.loads(one.dataset.profile)["documents"] == record["documents"]
        assert {one.dataset.name for one in inputs} == {record["name"], record["name"] + "/test"}
    finally:
        mlflow.set_tracking_uri(before)
