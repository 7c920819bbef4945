"""Documents → passages: what is searched, and the consecutive pairs that adaptation learns from.

``split_passages`` cuts one text into windows of at most so many tokens; ``split_corpus`` cuts the long
documents of a collection, and keeps their judgements; ``adaptation_rows`` pairs what follows each other.
Issue 5, point 6.
"""

from __future__ import annotations

from typing import Any

from llara_core.data.passages_corpus import split_corpus
from llara_core.data.passages_rows import ROWS_SCHEMA, adaptation_rows, held_out_rows
from llara_core.data.passages_split import Passage, Splitter
from llara_core.data.passages_words import windows
from llara_core.data_settings import PassageSettings

__all__ = [
    "ROWS_SCHEMA",
    "Passage",
    "adaptation_rows",
    "held_out_rows",
    "split_corpus",
    "split_passages",
    "windows",
]


def split_passages(
    text: str,
    *,
    tokens: int,
    overlap: int = 0,
    tokenizer: Any = None,
    title: str = "",
    repeat_headers: bool = True,
) -> list[Passage]:
    """Cut a text into windows of whole sentences, as few as can be and about equally long; deterministic.

    - No window has more than ``tokens`` tokens, counted as the model will count it: by itself, with the
      title before it, without special tokens.
    - Sentences end at . ! ? and at their likes in other scripts, not after abbreviations. One that is
      longer than a window is cut at a line, a clause, a word, or else between two signs, never inside what
      a reader sees as one.
    - A Markdown heading stays with what is under it, a line that ends with a colon with its list. A table
      or a fenced code block stays whole where it fits a window; else it is cut between rows or lines, and
      the table's header row is repeated.
    - Without ``overlap`` nothing is lost but white space, and nothing but such header rows stands twice.

    Args:
        text: the document; any string.
        tokens: of a window at most; 8 or more.
        overlap: tokens at most, in whole sentences, that a window repeats of the one before it; at most
            half of ``tokens``. Fewer where the sentence after them would not find room.
        tokenizer: a fast tokenizer of transformers or ``tokenizers``; any function from a text to its
            tokens or their number; None counts words, and characters of Chinese and Japanese.
        title: stands before every passage when it is encoded (``collection.passage_text``), so its tokens
            are taken off; at most half of ``tokens``.
        repeat_headers: repeat the header row of a table that does not fit one window.

    Returns:
        The windows in order, with their places in ``text``; none where the text is white space.

    Raises:
        ConfigError: ``tokens`` or ``overlap`` is out of range, the title too long, or ``tokenizer`` none.
    """
    values = {"tokens": tokens, "overlap": overlap, "repeat_headers": repeat_headers}
    splitter = Splitter(PassageSettings.parse(values, "split_passages"), tokenizer)
    return next(splitter.split([text], [title]))
