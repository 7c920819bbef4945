from __future__ import annotations

from pathlib import Path

import pytest

from llara_core.data.collection import Collection
from llara_core.errors import DataError
from llara_core.retrieval.index import Index, IndexSettings
from llara_core.serving.corpus import Corpus, Passage
from tests.oracles.fake_encoder import FakeEncoder
from tests.oracles.tiny_collection import collection

TEXTS = {f"d/{number}": f"passage number {number}" for number in range(5000)}
QUERIES = {
    "q0": "How do  bees make honey?",
    "q1": "how do bees make honey?",
    "q2": "never judged",
    "q3": "ẞtraße",
    "q4": "bad only",
    "q5": "x" * 500,
}
QRELS = {
    "train": {"q0": {"d/1": 1, "d/2": 1}, "q4": {"d/9": 0}},
    "test": {"q1": {"d/2": 3, "d/3": 0}, "q3": {"d/4": 2}, "q4": {"d/8": 0}, "q5": {"d/1": 1}},
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return collection(TEXTS, QUERIES, QRELS).save(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def corpus(saved: Path) -> Corpus:
    return Corpus.open(saved)


def test_passages_by_row_and_by_id(corpus: Corpus) -> None:
    assert (len(corpus), corpus.name, corpus.judged_queries) == (5000, "tiny", 5)
    assert corpus.passage(4999) == Passage(4999, "d/4999", "", "passage number 4999")
    assert [corpus.row_of(f"d/{number}") for number in (0, 4097, 4999)] == [0, 4097, 4999]
    assert [corpus.row_of(other) for other in ("", "d/5000", "D/1", "d/1\0", "\ud800")] == [None] * 5
    for row in (-1, 5000):
        with pytest.raises(IndexError, match="corpus of 5000 passages"):
            corpus.passage(row)


def test_a_null_title_is_an_empty_one() -> None:
    import pyarrow as pa

    one = collection({"a": "text"}, {}, {})
    table = one.corpus.set_column(1, "title", pa.array([None], pa.string()))
    assert Corpus(Collection("c", table, one.queries, {})).passage(0) == Passage(0, "a", "", "text")


@pytest.mark.parametrize("asked", ["how do bees make honey?", "  HOW do\tbees\nmake honey? "])
def test_grades_of_all_queries_that_ask_the_same(corpus: Corpus, asked: str) -> None:
    assert corpus.grades(asked) == {"d/1": 1, "d/2": 3, "d/3": 0}


def test_what_is_not_a_judged_query_has_no_grades(corpus: Corpus) -> None:
    for asked in ("", "never judged", "how do bees make honey", "\ud800"):
        assert corpus.grades(asked) == {}
    assert corpus.grades("SSTRASSE") == {"d/4": 2}  # full case folding


def test_examples_have_an_answer_and_come_from_the_test_split(corpus: Corpus) -> None:
    assert sorted(corpus.examples(10)) == ["how do bees make honey?", "ẞtraße"]
    assert len(corpus.examples(1)) == 1
    assert Corpus(collection({"a": "b"}, {"q": "w"}, {})).examples(3) == []


def test_examples_are_spread_over_the_queries() -> None:
    queries = {f"q{number}": f"question {number}" for number in range(1000)}
    qrels = {"test": {query: {"a": 1} for query in queries}}
    found = Corpus(collection({"a": "b"}, queries, qrels)).examples(5)
    numbers = sorted(int(text.split()[1]) for text in found)
    assert len(numbers) == 5
    assert numbers[0] < 100
    assert numbers[-1] > 700


def test_an_index_of_other_passages_is_refused(saved: Path, tmp_path: Path) -> None:
    ids, texts = list(TEXTS), list(TEXTS.values())

    def index(name: str, ids: list[str], texts: list[str]) -> Index:
        return Index.build(tmp_path / name, FakeEncoder(8), ids, texts, IndexSettings(kind="flat"))

    assert len(Corpus.open(saved, index("same", ids, texts))) == 5000
    with pytest.raises(DataError, match="it has 4999 passages, the collection 5000"):
        Corpus.open(saved, index("short", ids[:-1], texts[:-1]))
    swapped = [*ids[:4500], ids[4501], ids[4500], *ids[4502:]]
    with pytest.raises(DataError, match="row 4500 is 'd/4501' there and 'd/4500' in it"):
        Corpus.open(saved, index("order", swapped, texts))
    with pytest.raises(DataError, match=r"the text of 'd/0' \(row 0\) is another"):
        Corpus.open(saved, index("texts", ids, ["other", *texts[1:]]))


def test_a_folder_without_a_collection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a saved collection"):
        Corpus.open(tmp_path)
