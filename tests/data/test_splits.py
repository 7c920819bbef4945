"""Held-out queries: what belongs together stays together, and more data moves few of the others."""

from __future__ import annotations

import pyarrow as pa
import pytest

from llara_core.data.collection import CORPUS_SCHEMA, QRELS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.data.splits import hold_out_queries
from llara_core.errors import DataError


def collection(pairs: list[tuple[str, str, str]]) -> Collection:
    """Judgements given as (query id, text, document id)."""
    documents = sorted({document for _, _, document in pairs})
    queries = {query: text for query, text, _ in pairs}
    corpus = [{"_id": one, "title": "", "text": one, "line": 1} for one in documents]
    asked = [{"_id": one, "text": text, "line": 1} for one, text in queries.items()]
    judged = [{"query_id": one, "corpus_id": two, "score": 1, "line": 1} for one, _, two in pairs]
    return Collection(
        "c",
        pa.Table.from_pylist(corpus, CORPUS_SCHEMA),
        pa.Table.from_pylist(asked, QUERIES_SCHEMA),
        {"train": pa.Table.from_pylist(judged, QRELS_SCHEMA)},
    )


def plain(count: int) -> list[tuple[str, str, str]]:
    return [(f"q{number}", f"question {number}", f"d{number}") for number in range(count)]


def test_a_share_moves_and_nothing_is_lost_or_doubled() -> None:
    before = collection(plain(100))
    after = hold_out_queries(before, 0.2)
    test, train = after.judgements("test"), after.judgements("train")
    assert len(test) == 20 and len(train) == 80
    assert {**test, **train} == before.judgements("train")
    assert after.corpus is before.corpus and after.queries is before.queries


def test_the_same_text_and_the_same_passage_stay_on_one_side() -> None:
    pairs = plain(40)
    pairs += [("again", "Question  3", "other"), ("more", "what else", "other"), ("last", "at last", "d7")]
    for seed in range(20):
        after = hold_out_queries(collection(pairs), 0.3, seed=seed)
        test = set(after.judgements("test"))
        for together in ({"q3", "again", "more"}, {"q7", "last"}):
            assert test >= together or test.isdisjoint(together)
        assert len(test) <= 12


def test_another_seed_draws_another_split_and_the_same_the_same() -> None:
    drawn = [
        set(hold_out_queries(collection(plain(50)), 0.2, seed=seed).judgements("test")) for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_more_rows_move_few_of_the_others() -> None:
    fewer = set(hold_out_queries(collection(plain(200)), 0.2).judgements("test"))
    more = set(hold_out_queries(collection(plain(210)), 0.2).judgements("test"))
    assert len(fewer - more) <= 6


@pytest.mark.parametrize(
    ("pairs", "share", "said"),
    [
        ([("a", "x", "d"), ("b", "y", "d")], 0.5, "no query of split 'train' can be held out"),
        (plain(3), 1.5, "between 0 and 1"),
    ],
)
def test_what_cannot_be_held_out_is_refused(
    pairs: list[tuple[str, str, str]], share: float, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        hold_out_queries(collection(pairs), share)


def test_an_existing_split_is_not_overwritten() -> None:
    once = hold_out_queries(collection(plain(10)), 0.3)
    with pytest.raises(DataError, match="has a split 'test' already"):
        hold_out_queries(once, 0.3)
