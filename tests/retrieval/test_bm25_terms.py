from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llara_core.config import Bm25Settings
from llara_core.retrieval.bm25_terms import Analyser

ANALYSERS = [Analyser(Bm25Settings(split_identifiers=split)) for split in (True, False)]
TRICKY = st.sampled_from("aBcDEf_ 12İ\u03a3\u03c3éß\n.-")
LETTERS = st.text(alphabet=TRICKY, max_size=30) | st.text(max_size=30)


def _folded(text: str) -> str:
    """Without what lower case adds or decides by the neighbours."""
    return text.lower().replace("\u03c2", "\u03c3").replace("\u0307", "")


@given(LETTERS)
@example("parse_HTTPHeader of getURL2 İstanbulX")
@pytest.mark.parametrize("analyser", ANALYSERS, ids=["split", "whole"])
def test_places_are_those_of_the_words(analyser: Analyser, text: str) -> None:
    places = list(analyser.places(text))
    assert [word for word, _, _ in places] == analyser.words(text)
    for word, start, end in places:
        assert _folded(text[start:end]) == _folded(word)
    ends = [0, *(end for _, _, end in places)]
    assert all(end <= start < stop for end, (_, start, stop) in zip(ends, places, strict=False))


def test_places_of_an_identifier() -> None:
    text = "getURL2(parse_file)"
    assert [text[start:end] for _, start, end in ANALYSERS[0].places(text)] == [
        "get", "URL", "2", "parse", "file",
    ]  # fmt: skip
    assert [text[start:end] for _, start, end in ANALYSERS[1].places(text)] == ["getURL2", "parse_file"]
