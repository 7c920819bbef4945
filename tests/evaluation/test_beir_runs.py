"""Judging a list: what fails stays alone, what was done is not done again, and the table says all."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest

from llara_core.errors import DataError
from llara_core.evaluation.beir import Bm25System, DenseSystem, beir_metrics
from llara_core.evaluation.beir_places import Place, places
from llara_core.evaluation.beir_runs import Judge, Outcome, folder_of, judge_or_raise, judge_places
from llara_core.evaluation.beir_sets import beir_set
from llara_core.evaluation.beir_table import render_table, table_record
from llara_core.evaluation.results import SystemResult
from llara_core.evaluation.significance import bootstrap_interval
from tests.conftest import write_tiny_beir
from tests.oracles.fake_encoder import FakeEncoder


@pytest.fixture
def judge(tmp_path):
    return Judge("bm25", "bm25-1", Bm25System, results=tmp_path / "results")


def test_every_set_gives_its_files(judge, beir_folder):
    (outcome,) = judge_places(judge, places([str(beir_folder)]))
    folder = judge.results / "tiny" / "bm25"
    assert folder == folder_of(judge, outcome.place)
    files = {"result.json", "per_query.arrow", "results.arrow", "run.trec", "mteb.json"}
    assert {path.name for path in folder.iterdir()} == files
    saved = SystemResult.load(folder)
    assert tuple(saved.per_query) == beir_metrics(100) == judge.wanted
    assert saved.to_json() == outcome.result.to_json()
    assert saved.protocol["identical_ids"] == "unless_judged" and saved.protocol["depth"] == 100
    assert len((folder / "run.trec").read_text().splitlines()) == sum(map(len, saved.found))
    mteb = json.loads((folder / "mteb.json").read_text())
    assert mteb["scores"]["test"][0]["main_score"] == outcome.result.means["ndcg_at_10"]


def test_a_failing_set_does_not_lose_the_others(judge, beir_folder, tmp_path, caplog):
    bad = write_tiny_beir(tmp_path / "bad")
    (bad / "queries.jsonl").write_text('{"_id": "q"')
    listed = places([str(bad), str(beir_folder), str(tmp_path / "gone")])
    outcomes = judge_places(judge, listed)
    assert [bool(one.error) for one in outcomes] == [True, False, True]
    assert "malformed JSON" in outcomes[0].error and "no such folder" in outcomes[2].error
    assert "bad: not judged" in caplog.text
    record = table_record("bm25", outcomes)
    assert record["failed"] == 2 and record["average"]["sets"] == 1
    text = render_table(record)
    assert "failed: gone: " in text and text.splitlines()[1].split() == ["bad", "failed"]
    with pytest.raises(DataError):
        judge_or_raise(judge, listed[0])


def test_an_unexpected_error_is_told_with_its_kind(beir_folder, caplog):
    def broken(_collection):
        raise RuntimeError("disk on fire")

    (outcome,) = judge_places(Judge("m", "1", broken), places([str(beir_folder)]))
    assert outcome.error == "RuntimeError: disk on fire" and outcome.result is None
    assert "tiny: not judged: RuntimeError: disk on fire" in caplog.text


def test_what_was_judged_is_not_judged_again(judge, beir_folder, caplog):
    caplog.set_level(logging.INFO, "llara_core")
    opened = []
    counted = replace(judge, open_system=lambda one: opened.append(one.name) or Bm25System(one))
    listed = places([str(beir_folder)])
    first = judge_places(counted, listed)[0]
    again = judge_places(counted, listed)[0]
    assert opened == ["tiny"] and again.reused and not first.reused
    assert again.result.to_json() == first.result.to_json()

    for changed in (
        replace(counted, fingerprint="bm25-2"),
        replace(counted, fingerprint="bm25-2", depth=1000),
        replace(counted, fingerprint="bm25-2", depth=1000, metrics=("ndcg_at_10",)),
    ):
        assert not judge_places(changed, listed)[0].reused
        assert judge_places(changed, listed)[0].reused
    with (beir_folder / "corpus.jsonl").open("a") as stream:
        stream.write('{"_id": "new", "title": "", "text": "one more"}\n')
    assert not judge_places(changed, listed)[0].reused
    assert not judge_places(changed, [replace(listed[0], protocol={"identical_ids": "keep"})])[0].reused
    assert len(opened) == 6
    assert "another model, data or protocol" in caplog.text


def test_an_unreadable_earlier_result_is_judged_again(judge, beir_folder, caplog):
    listed = places([str(beir_folder)])
    judge_places(judge, listed)
    (folder_of(judge, listed[0]) / "per_query.arrow").write_bytes(b"cut off")
    assert not judge_places(judge, listed)[0].reused
    assert "cannot be read" in caplog.text
    assert judge_places(judge, listed)[0].reused


def test_a_folder_with_something_else_is_refused_before_the_work(judge, beir_folder, caplog):
    thesis = judge.results / "tiny" / "bm25" / "thesis.tex"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("x")
    unopened = replace(judge, open_system=lambda _one: pytest.fail("encoded for nothing"))
    (outcome,) = judge_places(unopened, places([str(beir_folder)]))
    assert "holds something other than a result" in outcome.error and thesis.is_file()


def test_a_sample_called_like_a_public_set_is_said_to_be_one(judge, tmp_path, caplog):
    caplog.set_level(logging.INFO, "llara_core")
    write_tiny_beir(tmp_path / "quora")
    (outcome,) = judge_places(judge, places([str(tmp_path / "quora")]))
    assert outcome.public == "" and outcome.result.protocol["identical_ids"] == "unless_judged"
    assert "called like a public set, but of another size" in caplog.text


def test_nothing_is_kept_without_a_folder(beir_folder, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    judge_places(Judge("bm25", "1", Bm25System), places([str(beir_folder)]))
    assert sorted(tmp_path.rglob("*")) == before


def test_depth_1000_gives_the_metrics_at_1000(judge, beir_folder):
    deep = replace(judge, depth=1000)
    (outcome,) = judge_places(deep, places([str(beir_folder)]))
    for metric in ("ndcg", "map", "recall", "precision", "mrr", "r_cap", "hole"):
        assert {f"{metric}_at_{k}" for k in (1, 3, 5, 10, 100, 1000)} <= set(outcome.result.per_query)
    assert outcome.result.means["precision_at_1000"] <= 24 / 1000


def outcome_of(name, scores, group="", public="", documents=10):
    scores = np.array(scores, np.float64)
    values = {"ndcg_at_10": scores, "recall_at_100": scores / 2, "mrr_at_10": scores}
    ids = [f"q{i}" for i in range(len(scores))]
    result = SystemResult("m", name, "test", documents, ids, values, [[]] * len(ids), [[]] * len(ids))
    return Outcome(Place(name, "x", "test", group=group), result, public=public)


def test_cqadupstack_is_the_mean_of_its_forums_means():
    """Not of its queries: the forums' sizes differ fivefold."""
    forums = list(beir_set("cqadupstack").forums.values())
    outcomes = [
        outcome_of(one.name, [place / 20] * (place + 1), "cqadupstack", one.name)
        for place, one in enumerate(forums)
    ]
    record = table_record("m", [outcome_of("mine", [0.5, 0.5]), *outcomes])
    mine, whole = record["rows"]
    assert whole["set"] == "cqadupstack" and whole["parts"] == 12
    assert whole["scores"]["ndcg_at_10"] == pytest.approx(sum(range(12)) / 20 / 12)
    assert (whole["queries"], whole["documents"]) == (78, 120)
    # Every query of a forum scores alike, so resampling within forums cannot move the mean.
    assert whole["low"] == pytest.approx(whole["high"]) == pytest.approx(whole["scores"]["ndcg_at_10"])
    assert whole["anchors"]["bm25"] == 0.299 and mine["anchors"] == {}
    assert record["average"]["scores"]["ndcg_at_10"] == pytest.approx(
        (0.5 + whole["scores"]["ndcg_at_10"]) / 2
    )
    assert table_record("m", outcomes[:11])["rows"][0]["anchors"] == {}  # eleven are not the set


def test_one_failed_forum_fails_the_average():
    forums = list(beir_set("cqadupstack").forums.values())
    outcomes = [outcome_of(one.name, [0.5], "cqadupstack", one.name) for one in forums[:11]]
    outcomes.append(Outcome(Place("cqadupstack-wordpress", "x", "test", group="cqadupstack"), error="gone"))
    (row,) = table_record("m", outcomes)["rows"]
    assert row["error"] == "1 of 12 parts failed; cqadupstack-wordpress: gone" and row["scores"] == {}


def test_anchors_stand_only_beside_the_whole_public_set():
    scores = [0.2, 0.4, 0.9]
    record = table_record(
        "m", [outcome_of("scifact", scores, public="scifact"), outcome_of("arguana", [0.1])]
    )
    scifact, arguana = record["rows"]
    assert scifact["anchors"]["llara-passage"] == 0.76 and arguana["anchors"] == {}
    assert (scifact["low"], scifact["high"]) == bootstrap_interval(np.array(scores), seed=0)
    assert record["average"]["anchors"] == {}  # no fair average: one of the two has no number
    both = [outcome_of(name, scores, public=name) for name in ("scifact", "msmarco")]
    averaged = table_record("m", both)["average"]
    assert averaged["anchors"] == {"bm25": pytest.approx((0.665 + 0.228) / 2)}  # only BM25 has both
    lines = render_table(table_record("m", both)).splitlines()
    assert lines[0].split()[-4:] == ["BM25", "Contriever", "RepLLaMA", "LLARA"]
    assert lines[3].startswith("average of 2") and "0.447" in lines[3]
    assert any("MRR@10: 0.5000 (published: LLARA 0.431)" in line for line in lines)
    assert any("2310.08319" in line for line in lines)
    json.dumps(record)


def test_a_set_by_name_of_another_size_is_warned_about(tmp_path, caplog):
    write_tiny_beir(tmp_path / "scifact")
    (outcome,) = judge_places(Judge("bm25", "1", Bm25System), places(sets=["scifact"], root=tmp_path))
    assert outcome.public == "" and outcome.result.protocol["identical_ids"] == "keep"
    assert "do not compare with published ones" in caplog.text


def test_the_cache_of_vectors_is_used(judge, beir_folder, tmp_path):
    encoder = FakeEncoder()
    dense = Judge(
        "dense",
        "fake-1",
        lambda one: DenseSystem("dense", encoder, one, tmp_path / "vectors"),
        results=judge.results,
    )
    listed = places([str(beir_folder)])
    first = judge_places(dense, listed)[0].result
    shutil.rmtree(judge.results)
    assert judge_places(dense, listed)[0].result.to_json() == first.to_json()
    assert encoder.passages_encoded == 24


def test_an_interrupted_list_keeps_what_was_finished(judge, beir_folder, tmp_path):
    other = write_tiny_beir(tmp_path / "other")

    def interrupted(collection):
        if collection.name == "other":
            raise KeyboardInterrupt
        return Bm25System(collection)

    listed = places([str(beir_folder), str(other)])
    with pytest.raises(KeyboardInterrupt):
        judge_places(replace(judge, open_system=interrupted), listed)
    assert [outcome.reused for outcome in judge_places(judge, listed)] == [True, False]


def test_vectors_that_would_fill_the_memory_are_warned_about(beir_folder, tmp_path, caplog, monkeypatch):
    from llara_core.data.formats import open_collection

    monkeypatch.setattr("llara_core.evaluation.beir._LARGE", 1_000)
    collection = open_collection(beir_folder)
    DenseSystem("d", FakeEncoder(), collection, tmp_path / "vectors")
    assert "llara evaluate --cache" not in caplog.text
    DenseSystem("d", FakeEncoder(), collection)
    assert "llara evaluate --cache FOLDER" in caplog.text
