"""The single looks of a tick: numbers where they can be had, words where they cannot."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llara_core.config import CollectionSettings, TrainingSettings
from llara_core.data.collection import Collection
from llara_core.data.intake import take_in
from llara_core.model.retriever import Retriever
from llara_core.operations.freshness_documents import Changes
from llara_core.retraining_settings import FreshJudgedSettings, QuerySettings
from llara_core.retrieval.index import Index
from steps import observed, observed_live
from tests.conftest import TOPICS, write_qrels, write_tiny_beir

TOLD = TrainingSettings()
SCORES = {"ndcg_at_10": "0.9", "collection": "tiny", "data_hash": "d", "split": "test"}


@dataclass(frozen=True)
class Known:
    """A champion whose model and collection are at hand."""

    model: Retriever | None
    collection: Collection | None
    tags: Mapping[str, str]
    number: str = "3"


def read(folder: Path, target: Path) -> Collection:
    return take_in(CollectionSettings(source=str(folder), name="tiny"), target).collection


@pytest.fixture
def data(tmp_path: Path) -> Collection:
    return read(write_tiny_beir(tmp_path / "tiny"), tmp_path / "read")


@pytest.fixture(scope="module")
def model(work: Path) -> Retriever:
    return Retriever.from_pretrained(work / "finetuned")


def test_documents_against_the_champions_own(tmp_path: Path, data: Collection) -> None:
    corpus = tmp_path / "tiny" / "corpus.jsonl"
    lines = corpus.read_text(encoding="utf-8").splitlines()
    lines[0] = lines[0].replace("Part 0", "Part zero")
    corpus.write_text("\n".join([*lines[:-1], ""]), encoding="utf-8")
    write_qrels(tmp_path / "tiny" / "qrels" / "test.tsv", [("test-volcano", "volcano-1", 1)])
    now = read(tmp_path / "tiny", tmp_path / "now")
    absent: dict[str, str] = {}
    champion: Any = Known(None, data, SCORES)
    assert observed.documents(champion, now, absent) == Changes(22, 0, 1, 0, 1)
    assert observed.documents(champion, data, absent) == Changes(24, 0, 0, 0, 0)
    assert not absent
    gone: Any = Known(None, None, SCORES)
    assert observed.documents(gone, now, absent) is None
    assert "version 3 is out of reach" in absent["documents"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "no query log is kept"),
        ({"log": "none.txt"}, "there is no query log none.txt"),
        ({"log": "LOG"}, "8 different new queries and 8 of the champion's time; 50 of each are needed"),
    ],
)
def test_queries_that_cannot_be_compared(
    tmp_path: Path, data: Collection, settings: dict[str, str], words: str
) -> None:
    log = tmp_path / "log.txt"
    log.write_text("".join(f"{topic} today\n" for topic in TOPICS), encoding="utf-8")
    told = QuerySettings(**{key: str(log) if value == "LOG" else value for key, value in settings.items()})
    absent: dict[str, str] = {}
    champion: Any = Known(None, data, SCORES)  # no model: it must not be asked for
    assert observed.shift(champion, data, TOLD, told, absent) is None
    assert words in absent["queries"]


def test_the_training_queries_asked_again_are_no_shift(
    tmp_path: Path, data: Collection, model: Retriever
) -> None:
    _, texts = data.split_queries("train")
    log = tmp_path / "log.txt"
    log.write_text("\n".join(texts), encoding="utf-8")
    champion: Any = Known(model, data, SCORES)
    told = QuerySettings(log=str(log), minimum_queries=5)
    same = observed.shift(champion, data, TOLD, told, {})
    assert same is not None
    assert (same.reference, same.fresh) == (8, 8)
    assert same.value <= same.by_chance

    log.write_text(
        "\n".join(f"{topic} {'zzz ' * number}" for number, topic in enumerate(TOPICS)), encoding="utf-8"
    )
    other = observed.shift(champion, data, TOLD, told, {})
    assert other is not None
    assert other.value > same.value


def test_fresh_judgements_of_the_collection_or_of_another(
    tmp_path: Path, data: Collection, model: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLARA_LOCAL", str(tmp_path / "local"))
    champion: Any = Known(model, data, SCORES)
    absent: dict[str, str] = {}
    here = observed.quality(champion, data, TOLD, FreshJudgedSettings(split="test"), absent)
    assert here is not None
    assert (here.queries, here.recorded) == (8, 0.9)
    assert here.low <= here.mean <= here.high
    shutil.copytree(tmp_path / "tiny", tmp_path / "other")
    other = FreshJudgedSettings(split="test", source=str(tmp_path / "other"), name="other")
    there = observed.quality(champion, data, TOLD, other, absent)
    assert there == here
    assert not absent
    assert not any((tmp_path / "local" / "work").iterdir())  # what was read is removed


@pytest.mark.parametrize(
    ("settings", "tags", "words"),
    [
        ({}, SCORES, "no fresh judged queries"),
        ({"split": "fresh"}, SCORES, "collection tiny has no judgements fresh"),
        ({"split": "test"}, {}, "version 3 carries no ndcg_at_10 of ours"),
    ],
)
def test_quality_that_cannot_be_measured(
    data: Collection, settings: dict[str, str], tags: dict[str, str], words: str
) -> None:
    absent: dict[str, str] = {}
    champion: Any = Known(None, data, tags)
    assert observed.quality(champion, data, TOLD, FreshJudgedSettings(**settings), absent) is None
    assert words in absent["quality"]


def test_no_training_queries(data: Collection) -> None:
    assert observed._training_queries(data, "none", QuerySettings()) == []
    few = observed._training_queries(data, "train", QuerySettings(sample=10))
    assert len(few) == 8


def test_the_live_index_against_the_corpus(tmp_path: Path, data: Collection, model: Retriever) -> None:
    Index.build(tmp_path / "index", model, list(data.corpus_ids), list(data.passages))
    pair = SimpleNamespace(index=tmp_path / "index")
    absent: dict[str, str] = {}
    assert observed_live.index(pair, data, absent) == Changes(24, 0, 0, 0, 0)
    smaller = replace(data, corpus=data.corpus.slice(2))
    assert observed_live.index(pair, smaller, absent) == Changes(22, 0, 0, 0, 2)
    assert not absent
    assert observed_live.index(None, data, absent) is None
    assert absent.pop("index") == "nothing is live yet"
    (tmp_path / "index" / "index.json").write_text("{}", encoding="utf-8")
    assert observed_live.index(pair, data, absent) is None
    assert "cannot be opened" in absent["index"]
