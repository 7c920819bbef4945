"""Windows measured in words, without a tokenizer: what adaptation learns from by default.

The published figures of the recipes rest on these windows, so they stay as they are;
``passages.split_passages`` measures in tokens and knows headings, tables and abbreviations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# A sentence ends at . ! ? (and closing quotes) before white space, and at their full-width likes.
_SENTENCE_END = re.compile(r"([.!?][\"')\]]*)\s+|([\u3002\uff01\uff1f])")
CHARS_PER_WORD = 8  # text without spaces (Chinese, Japanese, Thai) is measured in characters


def windows(text: str, words_per_window: int = 100) -> list[str]:
    """Cut a text at sentence ends into windows of about equal size, near ``words_per_window`` words.

    A sentence longer than a window is cut between words. Nothing but white space is lost.
    """
    pieces = [
        piece
        for sentence in _SENTENCE_END.sub(r"\1\2\n", text).split("\n")
        if sentence and not sentence.isspace()
        for piece in _cut(sentence.strip(), words_per_window)
    ]
    sizes = [_size(piece) for piece in pieces]
    total = sum(sizes)
    # Equal shares rather than full windows and a rest: a rest of three words teaches nothing.
    share = total / max(1, round(total / words_per_window))
    result: list[list[str]] = []
    before = 0.0  # words in front of this piece; its middle decides which window it belongs to
    for piece, size in zip(pieces, sizes, strict=True):
        if not result or (before + size / 2) >= len(result) * share:
            result.append([])
        result[-1].append(piece)
        before += size
    return [" ".join(window) for window in result]


def halves(text: str) -> tuple[str, str] | None:
    """A text cut between words in the middle; None where it is a single word.

    A long word alone is taken for a script without spaces, and cut between characters.
    """
    words, joint = text.split(), " "
    if len(words) == 1 and len(words[0]) >= 2 * CHARS_PER_WORD:
        words, joint = list(words[0]), ""
    half = len(words) // 2
    return (joint.join(words[:half]), joint.join(words[half:])) if half else None


def _size(text: str) -> int:
    return max(text.count(" ") + 1, len(text) // CHARS_PER_WORD)


def _cut(sentence: str, size: int) -> Iterator[str]:
    """The sentence whole if it fits a window, else pieces of at most ``size`` words."""
    if _size(sentence) <= size:
        yield sentence
        return
    limit = size * CHARS_PER_WORD
    words: list[str] = []
    held = 0  # characters of them; adding them up anew for every word would be quadratic in the limit
    for word in sentence.split():
        for start in range(0, len(word), limit):
            part = word[start : start + limit]
            if words and (len(words) == size or held + len(part) > limit):
                yield " ".join(words)
                words, held = [], 0
            words.append(part)
            held += len(part)
    yield " ".join(words)
