"""What is known of BEIR's sets: names, sizes, protocols and published scores."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest

from llara_core.errors import DataError
from llara_core.evaluation.beir import IDENTICAL_IDS
from llara_core.evaluation.beir_sets import anchors, beir_set, beir_sets, find_set, recognise
from tests.oracles.tiny_collection import collection

PUBLIC = [
    "msmarco", "trec-covid", "nfcorpus", "nq", "hotpotqa", "fiqa", "arguana", "webis-touche2020",
    "cqadupstack", "quora", "dbpedia-entity", "scidocs", "fever", "climate-fever", "scifact",
]  # fmt: skip


def test_all_fifteen_public_sets_are_known():
    sets = beir_sets()
    assert list(sets) == PUBLIC
    for name, one in sets.items():
        assert one.name == name and one.split == ("dev" if name == "msmarco" else "test")
        assert one.identical_ids in IDENTICAL_IDS and one.relevance_cut == 1
        assert min(one.documents, one.queries, one.relevant) > 0
        assert one.licence and one.source and one.mteb_task
    assert (sets["scifact"].documents, sets["scifact"].queries) == (5183, 300)
    assert sets["arguana"].identical_ids == "drop" and sets["quora"].identical_ids == "drop"


def test_cqadupstack_is_the_sum_of_its_twelve_forums():
    whole = beir_set("cqadupstack")
    assert len(whole.forums) == 12
    for what in ("documents", "queries", "relevant"):
        assert sum(getattr(one, what) for one in whole.forums.values()) == getattr(whole, what)
    assert find_set("CQADupStack/gis") == find_set("cqadupstack-gis") == whole.forums["gis"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [("SciFact", "scifact"), ("touche-2020", "webis-touche2020"), ("dbpedia", "dbpedia-entity")],
)
def test_other_spellings(name, meant):
    assert beir_set(name).name == meant


def test_unknown_and_closed_sets():
    assert find_set("my-notes") is None
    with pytest.raises(DataError, match="did you mean 'scifact'"):
        beir_set("scifct")
    for closed in ("bioasq", "signal1m", "trec-news", "robust04"):
        with pytest.raises(DataError, match="not public"):
            beir_set(closed)


def test_a_collection_is_recognised_by_its_size(monkeypatch):
    tiny = collection({"a": "x", "b": "y"}, {"q": "x"}, {"test": {"q": {"a": 1}}}, name="SciFact")
    assert recognise(tiny, "test") is None  # a sample of the name only
    small = replace(beir_set("scifact"), documents=2, queries=1)
    monkeypatch.setattr("llara_core.evaluation.beir_sets.find_set", lambda _name: small)
    assert recognise(tiny, "test") is small
    assert recognise(tiny, "train") is None
    monkeypatch.setattr("llara_core.evaluation.beir_sets.find_set", lambda _name: replace(small, queries=2))
    assert recognise(tiny, "test") is None


def test_anchors_cite_a_source_and_name_known_sets():
    listed = anchors()
    assert [one.name for one in listed] == ["bm25", "contriever", "repllama", "llara-passage"]
    for one in listed:
        assert one.source and one.title
        for metric, scores in one.scores.items():
            assert metric in ("ndcg_at_10", "mrr_at_10")
            assert set(scores) <= set(PUBLIC) and all(0 < score < 1 for score in scores.values())
    assert listed[0].score("scifact") == 0.665 and listed[3].score("msmarco", "mrr_at_10") == 0.431
    assert listed[0].score("my-notes") is None
    # The averages that the papers themselves print, from the same numbers.
    assert sum(listed[2].scores["ndcg_at_10"].values()) / 13 == pytest.approx(0.551, abs=5e-4)


def test_counts_are_those_that_mteb_ships():
    """Kept in step with a peer: the descriptive statistics inside the package."""
    found = importlib.util.find_spec("mteb")  # its import alone takes seconds
    if found is None or found.origin is None:
        pytest.skip("mteb is not installed; it comes with the extra dev")
    folder = Path(found.origin).parent / "descriptive_stats"
    seen = 0
    for one in [*beir_sets().values(), *beir_set("cqadupstack").forums.values()]:
        for file in folder.rglob(f"{one.mteb_task}.json"):
            facts = json.loads(file.read_text())[one.split]
            if facts.get("num_documents"):
                counts = (facts["num_documents"], facts["num_queries"])
                assert counts == (one.documents, one.queries), one.name
                assert facts["relevant_docs_statistics"]["num_relevant_docs"] == one.relevant, one.name
                seen += 1
    assert seen >= 25
