"""How BM25 cuts text into terms."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

import Stemmer
from bm25s.stopwords import STOPWORDS_EN

from llara_core.config import Bm25Settings

_WORD = re.compile(r"\w\w+")
_LETTERS_OR_DIGITS = re.compile(r"[^\W\d_]+|\d+")  # with identifiers split, `x2` is two terms as well
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_")
_REMEMBERED = 1 << 20  # distinct words whose term is kept at hand: about 100 MiB
STOP_WORD = -1  # in the place of a term's number


def split_identifiers(text: str) -> str:
    """Return the text with ``snake_case`` and ``camelCase`` names cut into their words.

    >>> split_identifiers("parse_HTTPHeader of getURL2")
    'parse HTTP Header of get URL2'
    """
    return _HUMP.sub(" ", text)


class Analyser:
    """Cuts text into words of two characters or more, and words into terms, as the settings say.

    Args:
        settings: whether identifiers are split, stop words dropped and words stemmed.
    """

    def __init__(self, settings: Bm25Settings) -> None:
        self._split = settings.split_identifiers
        self._word = _LETTERS_OR_DIGITS if self._split else _WORD
        self._find = self._word.findall
        self.stop_words = frozenset(STOPWORDS_EN) if settings.stop_words else frozenset[str]()
        self.stem: Callable[[str], str] = str
        if settings.stem:
            self.stem = Stemmer.Stemmer("english").stemWord

    def words(self, text: str) -> list[str]:
        """Lower-cased words in their order, stop words among them."""
        return self._find(self._readable(text).lower())

    def terms(self, text: str) -> list[str]:
        """Terms in their order: words without stop words, stemmed."""
        return [self.stem(word) for word in self.words(text) if word not in self.stop_words]

    def places(self, text: str) -> Iterator[tuple[str, int, int]]:
        """The words of ``words``, each with the characters ``text[start:end]`` that it was read from.

        What reads a text and what shows it must not differ: cutting identifiers moves characters, and a few
        letters are longer in lower case.
        """
        readable = self._readable(text)
        lowered = readable.lower()
        origin: Sequence[int] = range(len(lowered))
        if len(lowered) != len(readable):
            origin = [place for place, letter in enumerate(readable) for _ in letter.lower()]
        humps = _HUMP.finditer(text) if self._split else ()
        # A hump without a character of its own got a space, which moved everything behind it by one.
        added = [hump.start() + number for number, hump in enumerate(one for one in humps if not one[0])]
        for found in self._word.finditer(lowered):
            first, last = origin[found.start()], origin[found.end() - 1]
            moved = bisect_left(added, first)
            yield found[0], first - moved, last + 1 - moved

    def _readable(self, text: str) -> str:
        return split_identifiers(text) if self._split else text


class Numbers(dict[str, int]):
    """Word to the number of its term, ``STOP_WORD`` for a stop word; a new word is worked out once.

    Args:
        analyser: how a word becomes a term.

    Attributes:
        vocabulary: term to number, in the order of first appearance.
    """

    def __init__(self, analyser: Analyser) -> None:
        super().__init__()
        self.vocabulary: dict[str, int] = {}
        self._analyser = analyser

    def __missing__(self, word: str) -> int:
        """Number a word that has not been met, or is no longer remembered."""
        if len(self) >= _REMEMBERED:
            self.clear()
        number = STOP_WORD
        if word not in self._analyser.stop_words:
            number = self.vocabulary.setdefault(self._analyser.stem(word), len(self.vocabulary))
        self[word] = number
        return number
