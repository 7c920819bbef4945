"""Counting what changed, against a plain comparison of dictionaries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llara_core.operations.freshness_documents import Changes, compare, percent
from llara_core.retrieval.hashes import passage_hashes

CORPUS = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(["x", "y", "z", ""]), max_size=8)


def changes(before: dict[str, str], after: dict[str, str]) -> Changes:
    return compare(list(before), passage_hashes(before.values()), list(after), passage_hashes(after.values()))


@given(CORPUS, CORPUS)
def test_every_document_is_counted_once(before: dict[str, str], after: dict[str, str]) -> None:
    found = changes(before, after)
    both = before.keys() & after.keys()
    assert found.unchanged == sum(before[one] == after[one] for one in both)
    assert found.changed == sum(before[one] != after[one] for one in both)
    gone = sorted(before[one] for one in before.keys() - after.keys())
    come = sorted(after[one] for one in after.keys() - before.keys())
    renamed = sum(min(gone.count(text), come.count(text)) for text in set(gone))
    assert (found.renamed, found.removed, found.added) == (renamed, len(gone) - renamed, len(come) - renamed)
    assert 0 <= found.share <= found.share_with_ids <= 1


@given(CORPUS)
def test_the_order_does_not_matter(corpus: dict[str, str]) -> None:
    found = changes(corpus, dict(reversed(corpus.items())))
    assert found == Changes(len(corpus), 0, 0, 0, 0)
    assert found.share_with_ids == 0


def test_shares() -> None:
    found = changes(
        {"a": "1", "b": "2", "c": "3", "d": "4"}, {"a": "1", "b": "changed", "C": "3", "e": "new"}
    )
    assert found == Changes(unchanged=1, renamed=1, changed=1, added=1, removed=1)
    assert found.share == pytest.approx(3 / 5)
    assert found.share_with_ids == pytest.approx(4 / 5)
    assert found.words() == "1 new, 1 changed, 1 removed, 1 renamed of 5 documents"
    assert Changes(**found.to_dict()) == found


def test_as_many_ids_as_hashes() -> None:
    with pytest.raises(ValueError, match="one hash for each id"):
        compare(["a"], passage_hashes([]), [], passage_hashes([]))


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.0, "0.0%"),
        (1.0, "100.0%"),
        (0.083, "8.3%"),
        (0.0005, "0.1%"),
        (0.00029, "0.03%"),
        (1e-7, "0.00001%"),
    ],
)
def test_a_small_share_is_not_shown_as_nothing(share: float, words: str) -> None:
    assert percent(share) == words
