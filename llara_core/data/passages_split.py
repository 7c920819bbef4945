"""Many documents → passages: counts, cuts and counts again, so that no passage exceeds its limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from llara_core.data.collection import passage_text
from llara_core.data.passages_blocks import Piece, pieces
from llara_core.data.passages_plan import Window, atoms, layout
from llara_core.data.passages_tokens import Tokens, counter
from llara_core.data_settings import PassageSettings
from llara_core.errors import ConfigError

LEAST_ROOM = 8  # tokens: a character may be 4, and a word's beginning one more
_AT_ONCE = 256  # documents whose offsets stand in memory together
_LONG = 1 << 18  # characters; nobody asks whether such a document fits a window


class Passage(NamedTuple):
    """A window of a document."""

    text: str  # document[start:end], after the header of a table that began earlier
    start: int  # in characters of the document
    end: int


class _Document(NamedTuple):
    text: str
    title: str
    tokens: Tokens
    pieces: list[Piece]


class Splitter:
    """Cuts many documents alike; see ``passages.split_passages``.

    Args:
        settings: how long passages are.
        tokenizer: what counts their tokens; see ``passages_tokens.counter``.

    Raises:
        ConfigError: the tokenizer is none.
    """

    def __init__(self, settings: PassageSettings, tokenizer: Any = None) -> None:
        self.settings, self.counter = settings, counter(tokenizer)

    def split(self, texts: Sequence[str], titles: Sequence[str] | None = None) -> Iterator[list[Passage]]:
        """The passages of each document, in order; none of one without text.

        Raises:
            ConfigError: a title leaves too little room (see ``leaves_room``), or the tokenizer takes more
                tokens than a window has for a single character.
        """
        titles = [""] * len(texts) if titles is None else titles
        for start in range(0, len(texts), _AT_ONCE):
            yield from self._some(texts[start : start + _AT_ONCE], titles[start : start + _AT_ONCE])

    def leaves_room(self, title_tokens: int) -> bool:
        """Whether passages may stand under a title of so many tokens: it takes at most half of each."""
        return not title_tokens or self.settings.tokens - title_tokens >= max(
            LEAST_ROOM, self.settings.tokens // 2
        )

    def _some(self, texts: Sequence[str], titles: Sequence[str]) -> Iterator[list[Passage]]:
        long = set(self._too_long(texts, titles))
        order = sorted(long)
        tokens = self.counter.offsets([texts[row] for row in order])
        documents = {
            row: _Document(texts[row], titles[row], where, pieces(texts[row]))
            for row, where in zip(order, tokens, strict=True)
        }
        cut = self._fitted(documents)
        for row, text in enumerate(texts):
            if row in long:
                yield [_passage(text, window) for window in cut[row]]
                continue
            bare = text.strip()
            start = text.find(bare)
            yield [Passage(bare, start, start + len(bare))] if bare else []

    def _too_long(self, texts: Sequence[str], titles: Sequence[str]) -> Iterator[int]:
        """Documents that do not fit one window."""
        short = [row for row, text in enumerate(texts) if len(text) < _LONG]
        counts = self.counter.counts([passage_text(titles[row], texts[row].strip()) for row in short])
        fits = {row for row, count in zip(short, counts, strict=True) if count <= self.settings.tokens}
        yield from (row for row, text in enumerate(texts) if row not in fits and not text.isspace() and text)

    def _fitted(self, documents: dict[int, _Document]) -> dict[int, list[Window]]:
        """Plan, count what was planned, and plan anew with less room where a window is too long."""
        room = self._rooms(documents)
        done: dict[int, list[Window]] = {}
        while room:
            planned = {row: self._plan(documents[row], space) for row, space in room.items()}
            texts = [
                passage_text(documents[row].title, _passage(documents[row].text, window).text)
                for row, found in planned.items()
                for window in found
            ]
            counts = iter(self.counter.counts(texts))
            for row, found in planned.items():
                excess = max((next(counts) for _ in found), default=0) - self.settings.tokens
                if excess <= 0:
                    done[row] = found
                    del room[row]
                    continue
                room[row] -= excess
                if room[row] < 1:
                    raise ConfigError(
                        f"passages.tokens: got {self.settings.tokens}, but the tokenizer takes more for a "
                        "single character under its title; set more tokens"
                    )
        return done

    def _rooms(self, documents: dict[int, _Document]) -> dict[int, int]:
        """Tokens that a title leaves to each document's windows."""
        costs = self.counter.counts([document.title for document in documents.values()])
        for cost in costs:
            if not self.leaves_room(cost):
                raise ConfigError(
                    f"passages.tokens: got {self.settings.tokens}, of which a title takes {cost}; at most "
                    f"half and all but {LEAST_ROOM} may go to the title: set more tokens, or shorten it"
                )
        return {row: self.settings.tokens - cost for row, cost in zip(documents, costs, strict=True)}

    def _plan(self, document: _Document, room: int) -> list[Window]:
        parts = atoms(document.text, document.tokens, document.pieces, room)
        settings = self.settings
        return layout(document.tokens, parts, room, settings.overlap, settings.repeat_headers)


def _passage(text: str, window: Window) -> Passage:
    body = text[window.start : window.end]
    if window.header is not None:
        body = f"{text[slice(*window.header)]}\n{body}"
    return Passage(body, window.start, window.end)
