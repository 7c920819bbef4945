from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llara_core.config import Bm25Settings
from llara_core.retrieval.bm25_terms import Analyser
from llara_core.serving.matches import LOOKED_AT, MARKS, SNIPPET, Matches

ANALYSER = Analyser(Bm25Settings(split_identifiers=True))


def _marked(pieces: object) -> list[str]:
    return [text for text, matched in pieces if matched]  # type: ignore[attr-defined]


def test_words_match_by_their_stems_and_stop_words_do_not() -> None:
    pieces = Matches("the connections that are closed", ANALYSER).whole(
        "It is connected; how? closing(connect_all)"
    )
    assert _marked(pieces) == ["connected", "closing", "connect"]


def test_nothing_is_marked_without_a_word() -> None:
    for query in ("", "the of and", "\ud800", "🙂"):
        assert Matches(query, ANALYSER).whole("the text of 🙂") == [("the text of 🙂", False)]
    assert Matches("a query", ANALYSER).whole("") == [("", False)]


@given(st.text(max_size=60), st.text(max_size=400), st.integers(30, 400))
def test_pieces_are_the_text_again(query: str, text: str, length: int) -> None:
    matches = Matches(query, ANALYSER)
    assert "".join(part for part, _ in matches.whole(text)) == text
    snippet = matches.snippet(text, length)
    shown = "".join(part for part, _ in snippet.pieces)
    assert shown in text
    assert len(shown) <= length + 24
    assert snippet.before or text.startswith(shown)
    assert snippet.after or text.endswith(shown)


def test_a_snippet_lies_where_most_words_are() -> None:
    filler = "nothing to be seen here " * 40
    text = f"{filler}one lava word. {filler}lava cools into basalt rock. {filler}basalt again"
    snippet = Matches("lava and basalt", ANALYSER).snippet(text)
    assert _marked(snippet.pieces) == ["lava", "basalt"]
    assert (snippet.before, snippet.after) == (True, True)
    assert snippet.pieces[0][0][:3] in {"not", "to ", "be ", "see", "her"}, "it begins with a whole word"
    assert sum(len(part) for part, _ in snippet.pieces) <= SNIPPET + 24


def test_a_snippet_at_the_end_is_as_long_as_one_elsewhere() -> None:
    text = "nothing to be seen here " * 40 + "lava"
    snippet = Matches("lava", ANALYSER).snippet(text)
    assert sum(len(part) for part, _ in snippet.pieces) >= SNIPPET - 24
    assert not snippet.after


def test_without_a_match_a_snippet_is_the_beginning() -> None:
    snippet = Matches("zebra", ANALYSER).snippet("word " * 200)
    assert not snippet.before
    assert snippet.pieces[0][0].startswith("word word")


def test_a_giant_passage_costs_no_more_than_its_beginning() -> None:
    text = "lava " * 400_000
    snippet = Matches("lava", ANALYSER).snippet(text)
    assert len(_marked(snippet.pieces)) < SNIPPET
    assert len(_marked(Matches("lava", ANALYSER).whole(text))) == MARKS
    assert not _marked(Matches("late", ANALYSER).snippet("x " * LOOKED_AT + "late").pieces)
