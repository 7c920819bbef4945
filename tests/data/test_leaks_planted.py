"""Leaks of five kinds, planted in made-up text always, in Wikipedia with real queries where it is at hand."""

from __future__ import annotations

import gzip
import importlib
import json
from pathlib import Path

import pytest

from llara_core.data.leaks import find_leaks
from tests.evaluation.test_subsets import read
from tests.oracles.leaky_texts import asked, made_up

ROOT = Path(__file__).resolve().parents[2]
ARTICLES = ROOT.parent / "shared" / "data" / "enwiki_sample" / "articles.jsonl.gz"


@pytest.fixture
def plants(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("planted_leaks")


@pytest.mark.parametrize("place", ["text", "training"])
def test_planted_leaks_are_found(plants, place):
    queries, others = made_up(400, 2), made_up(200, 3, (30, 60))
    for kind, least in plants.REQUIRED.items():
        copies = plants.planted(kind, queries, others)
        if place == "text":
            found = find_leaks(asked(queries), adaptation=[*others, *copies])
            share = sum(row >= len(others) for row in found.drop_adaptation) / len(copies)
            assert not [row for row in found.drop_adaptation if row < len(others)]
        else:
            share = len(find_leaks(asked(queries, copies)).drop_queries) / len(copies)
        assert share >= least, f"{kind}: {share:.1%}"


@pytest.mark.parametrize("name", ["scifact", "arguana", "cranfield"])
def test_real_queries_planted_in_wikipedia_are_found_and_the_rest_does_not_alarm(plants, name):
    if not ARTICLES.is_file():
        pytest.skip("the Wikipedia sample is not beside the checkout (../shared/data/enwiki_sample)")
    _, queries = read(name).split_queries("test")
    queries = queries[:300]
    with gzip.open(ARTICLES, "rt", encoding="utf-8") as lines:
        texts = [
            text
            for _, line in zip(range(1500), lines, strict=False)
            for text in json.loads(line)["text"].split("\n")
        ]
    texts = [text for text in texts if text.strip()]
    alarms = find_leaks(asked(queries), adaptation=texts).drop_adaptation
    assert len(alarms) < 0.001 * len(texts)
    sources = [text for text in texts if len(text) > 60]
    for kind, least in plants.REQUIRED.items():
        copies = plants.planted(kind, queries, sources)
        in_text = find_leaks(asked(queries), adaptation=copies).drop_adaptation
        in_training = find_leaks(asked(queries, copies)).drop_queries
        assert min(len(in_text), len(in_training)) >= least * len(copies), kind
