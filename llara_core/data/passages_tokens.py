"""Counting tokens: with offsets from a fast tokenizer, from any function, or as words.

A document is tokenised once; what a window of it costs is then read off the offsets. A window alone may
be tokenised a little differently than inside its document (its first word has no space before it), so
the windows are counted again before they are given away: the limit holds for what the model will see.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from llara_core.errors import ConfigError

# Scripts that write no spaces between words: ideographs, kana, Hangul is not among them; Thai, Lao,
# Burmese and Khmer count by their base letters, because vowels and tones are marks upon these.
_SPACELESS = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_BASED = "\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff"
_WORD_LETTERS = 16  # of a longer run of signs, a URL or a hash, each so many count as a word
_WORD = re.compile(rf"[{_SPACELESS}]|[{_BASED}]{{1,4}}|[^\s{_SPACELESS}{_BASED}]{{1,{_WORD_LETTERS}}}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_REMEMBERED = 1 << 16  # words whose number of tokens is kept
_AT_ONCE = 256  # texts handed to a tokenizer together


class Tokens(NamedTuple):
    """Where the tokens of a text begin and end, in characters; both [T] and ascending."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def between(self, start: int, end: int) -> int:
        """Tokens of which any character lies in ``text[start:end]``."""
        before_end = int(np.searchsorted(self.starts, end, side="left"))
        return max(0, before_end - int(np.searchsorted(self.ends, start, side="right")))


class Counter(Protocol):
    """What counts tokens."""

    def offsets(self, texts: Sequence[str]) -> list[Tokens]:
        """Where the tokens of each text lie."""

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text by itself, without special tokens."""


def counter(tokenizer: Any = None) -> Counter:
    """What counts tokens with a tokenizer.

    Args:
        tokenizer: a fast tokenizer of transformers or one of ``tokenizers`` (never changed, and used
            without truncation); a slow one of transformers; any function from a text to its tokens or
            their number; None counts words, and characters of scripts that write no spaces.

    Raises:
        ConfigError: it is none of these.
    """
    if tokenizer is None:
        return _Words()
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if hasattr(backend, "encode_batch_fast"):
        return _Fast(backend)
    if callable(getattr(tokenizer, "tokenize", None)):
        return _Function(tokenizer.tokenize)
    if callable(tokenizer):
        return _Function(tokenizer)
    raise ConfigError(
        f"tokenizer: got {type(tokenizer).__name__}; expected a tokenizer of transformers or tokenizers, or "
        "a function from a text to its tokens"
    )


class _Words:
    def offsets(self, texts: Sequence[str]) -> list[Tokens]:
        found = [[match.span() for match in _WORD.finditer(text)] for text in texts]
        return [_tokens(spans) for spans in found]

    def counts(self, texts: Sequence[str]) -> list[int]:
        return [len(_WORD.findall(text)) for text in texts]


class _Fast:
    def __init__(self, backend: Any) -> None:
        if backend.truncation is not None or backend.padding is not None:
            # Both are state of the tokenizer, which belongs to somebody else.
            backend = type(backend).from_str(backend.to_str())
            backend.no_truncation()
            backend.no_padding()
        self._backend = backend

    def offsets(self, texts: Sequence[str]) -> list[Tokens]:
        return [
            _tokens(encoding.offsets)
            for start in range(0, len(texts), _AT_ONCE)
            for encoding in self._backend.encode_batch(
                [_encodable(text) for text in texts[start : start + _AT_ONCE]], add_special_tokens=False
            )
        ]

    def counts(self, texts: Sequence[str]) -> list[int]:
        return [
            len(encoding)
            for start in range(0, len(texts), _AT_ONCE)
            for encoding in self._backend.encode_batch_fast(
                [_encodable(text) for text in texts[start : start + _AT_ONCE]], add_special_tokens=False
            )
        ]


class _Function:
    """A function that tells no offsets: those of words, each with the tokens it has alone."""

    def __init__(self, tokenize: Callable[[str], Any]) -> None:
        self._tokenize = tokenize
        self._of_word = lru_cache(_REMEMBERED)(self._count)

    def offsets(self, texts: Sequence[str]) -> list[Tokens]:
        return [_tokens(list(self._spans(text))) for text in texts]

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        done = 0
        for match in _WORD.finditer(text):
            start, end = match.span()
            alone = max(1, self._of_word(match[0]))
            if done < start:
                # A tokenizer may take white space for tokens, or a word with a space before it for another.
                yield from [(done, start)] * (self._of_word(text[done:end]) - alone)
            for number in range(alone):  # spread evenly, so that a long word can be cut
                place = start + number * (end - start) // alone
                yield place, max(place + 1, start + (number + 1) * (end - start) // alone)
            done = end

    def counts(self, texts: Sequence[str]) -> list[int]:
        return [self._count(text) for text in texts]

    def _count(self, text: str) -> int:
        found = self._tokenize(text)
        if isinstance(found, int):
            return found
        try:
            return len(found)
        except TypeError:
            raise ConfigError(
                f"tokenizer: gave {type(found).__name__} for a text; expected its tokens or their number"
            ) from None


def _tokens(spans: Sequence[tuple[int, int]]) -> Tokens:
    if not spans:
        return Tokens(np.empty(0, np.int64), np.empty(0, np.int64))
    both = np.array(spans, np.int64)
    # A normaliser may hand offsets back out of order; searching needs them ascending.
    return Tokens(np.maximum.accumulate(both[:, 0]), np.maximum.accumulate(both[:, 1]))


def _encodable(text: str) -> str:
    """Half surrogate pairs, which no UTF-8 holds, replaced one for one: offsets stay right."""
    return _SURROGATE.sub("\ufffd", text)
