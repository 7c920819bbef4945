"""Long documents of a collection become passages, and their judgements go with them."""

from __future__ import annotations

import pyarrow as pa
import pytest

from llara_core.data.collection import CORPUS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.data.passages import adaptation_rows, split_corpus
from llara_core.data_settings import PassageSettings
from llara_core.errors import ConfigError, DataError
from tests.oracles.tiny_collection import collection

LONG = "One two three four. Five six seven eight. Nine ten eleven twelve."
SETTINGS = PassageSettings(tokens=8)


def sample() -> Collection:
    return collection(
        {"a": LONG, "b": "short text", "c": ""},
        {"q": "which one"},
        {"test": {"q": {"a": 2, "b": 1}}, "train": {"q": {"gone": 1}}},
    )


def test_long_documents_are_cut_and_their_judgements_multiplied() -> None:
    cut = split_corpus(sample(), SETTINGS)
    assert cut.corpus.select(["_id", "text", "group", "position", "line"]).to_pylist() == [
        {"_id": "a#0", "text": "One two three four. Five six seven eight.", "group": "a",
         "position": 0, "line": 1},
        {"_id": "a#1", "text": "Nine ten eleven twelve.", "group": "a", "position": 1, "line": 1},
        {"_id": "b", "text": "short text", "group": None, "position": None, "line": 2},
        {"_id": "c", "text": "", "group": None, "position": None, "line": 3},
    ]  # fmt: skip
    assert cut.judgements("test") == {"q": {"a#0": 2, "a#1": 2, "b": 1}}
    assert cut.judgements("train") == {"q": {"gone": 1}}  # a broken reference stays one, for the gate to find
    facts = cut.report["passages"]
    assert (facts["documents"], facts["documents_cut"], facts["passages"]) == (3, 1, 4)


def test_a_collection_of_short_documents_stays_the_same() -> None:
    whole = sample()
    assert split_corpus(whole, PassageSettings(tokens=12)).content_hash == whole.content_hash


def test_written_to_a_file_it_is_the_same(tmp_path) -> None:
    cut = split_corpus(sample(), SETTINGS, file=tmp_path / "corpus.arrow")
    assert cut.content_hash == split_corpus(sample(), SETTINGS).content_hash
    cut.save(tmp_path / "saved")
    assert Collection.load(tmp_path / "saved").content_hash == cut.content_hash


def test_title_stands_before_every_passage_or_becomes_text() -> None:
    def titled(title: str) -> Collection:
        row = {"_id": "a", "title": title, "text": LONG, "group": None, "position": None, "line": 1}
        corpus = pa.Table.from_pylist([row], CORPUS_SCHEMA)
        return Collection("c", corpus, QUERIES_SCHEMA.empty_table(), {})

    cut = split_corpus(titled("two words"), PassageSettings(tokens=12))
    assert cut.corpus["title"].to_pylist() == ["two words"] * 2
    assert max(len(text.split()) for text in cut.passages) <= 12
    cut = split_corpus(titled("a title of five words"), SETTINGS)
    assert set(cut.corpus["title"].to_pylist()) == {""}
    assert " ".join(cut.corpus["text"].to_pylist()) == f"a title of five words {LONG}"


def test_a_name_that_is_taken() -> None:
    with pytest.raises(DataError, match="rename one of them"):
        split_corpus(collection({"a": LONG, "a#7": "x"}, {}, {}), SETTINGS)
    assert split_corpus(collection({"b": LONG, "a#7": "x"}, {}, {}), SETTINGS).corpus.num_rows == 3


def test_adaptation_rows_by_tokens() -> None:
    rows = adaptation_rows(sample(), passages=SETTINGS)
    assert rows.to_pylist() == [
        {"text": "One two three four. Five six seven eight.", "next_text": "Nine ten eleven twelve."},
        {"text": "Nine ten eleven twelve.", "next_text": "One two three four. Five six seven eight."},
        {"text": "short", "next_text": "text"},
    ]
    with pytest.raises(ConfigError, match="would teach copying"):
        adaptation_rows(sample(), passages=PassageSettings(tokens=8, overlap=4))


def test_passages_of_a_document_follow_each_other_in_adaptation() -> None:
    assert adaptation_rows(split_corpus(sample(), SETTINGS)).equals(
        adaptation_rows(sample(), passages=SETTINGS)
    )
