"""Documents → consecutive passages: the (text, next text) rows that adaptation learns from.

EBAE rebuilds a text from its embedding, EBAR predicts the text that follows it.
Source: LLaRA (Li et al. 2023), section 3.2: EBAR's target is the next sentence; here the next
passage of the same module or article, because retrieval units are passages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from llara_core.data.collection import Collection
from llara_core.errors import ConfigError, DataError

ROWS_SCHEMA = pa.schema([("text", pa.string()), ("next_text", pa.string())])

# A sentence ends at . ! ? (and closing quotes) before white space, and at their full-width likes.
_SENTENCE_END = re.compile(r"([.!?][\"')\]]*)\s+|([\u3002\uff01\uff1f])")
_CHARS_PER_WORD = 8  # text without spaces (Chinese, Japanese, Thai) is measured in characters
_CHUNK = 20_000  # rows that stand as Python objects at a time


def adaptation_rows(collection: Collection, words_per_window: int = 100) -> pa.Table:
    """Pairs of consecutive passages of a corpus, in corpus order; deterministic.

    - Documents of one group follow each other by position (then by corpus order): each is paired
      with the next, the last with the one before it.
    - A document that is alone is cut at sentence ends into windows of about ``words_per_window``
      words: each is paired with the next, the last with the one before it.
    - A lone document of a single window is halved: its first half is paired with its second. One
      of a single word has nothing that follows, and is left out, as are empty documents.

    Args:
        collection: its corpus is read, queries and qrels are not.
        words_per_window: words aimed at in a window; windows of one document are about equal.

    Returns:
        Table of ``text`` and ``next_text``, neither ever empty.

    Raises:
        ConfigError: ``words_per_window`` is below 2.
        DataError: the corpus gives no row.
    """
    if words_per_window < 2:
        raise ConfigError(f"words_per_window: got {words_per_window}; a window of at least 2 words is needed")
    passages = collection.passages
    batches: list[pa.RecordBatch] = []
    texts: list[str] = []
    following: list[str] = []
    for text, next_text in _pairs(collection, passages, words_per_window):
        texts.append(text)
        following.append(next_text)
        if len(texts) == _CHUNK:
            batches.append(pa.record_batch([texts, following], schema=ROWS_SCHEMA))
            texts, following = [], []
    if texts:
        batches.append(pa.record_batch([texts, following], schema=ROWS_SCHEMA))
    if not batches:
        raise DataError(
            f"no document of collection {collection.name!r} has two words, so nothing can be learnt from it",
            rule="adaptation_rows",
        )
    return pa.Table.from_batches(batches, schema=ROWS_SCHEMA)


def held_out_rows(rows: pa.Table, count: int, blocks: int = 16) -> tuple[pa.Table, pa.Table]:
    """Split rows into those to train on and about ``count`` that training never sees.

    Held out are blocks of consecutive rows, spread evenly over the table: neighbours share text, and a
    corpus is often ordered by subject. The rows at either side of a block are in neither part, because
    each row holds the text of the next. At most a fifth of the rows is held out.

    Args:
        rows: of ``adaptation_rows``.
        count: rows to hold out.
        blocks: of how many blocks they are, at most.

    Returns:
        The training rows and the held-out rows, both in order.

    Raises:
        DataError: there are fewer than 10 rows.
    """
    total = rows.num_rows
    if total < 10:
        raise DataError(
            f"the text gives {total} rows; at least 10 are needed, so that some can be held out",
            rule="adaptation_rows",
        )
    wanted = max(1, min(count, total // 5))
    blocks = min(blocks, wanted, total // 10)
    part = np.zeros(total, np.int8)  # 0 training, 1 held out, 2 neither
    for block in range(blocks):
        size = wanted * (block + 1) // blocks - wanted * block // blocks
        start = total * (2 * block + 1) // (2 * blocks) - size // 2
        part[start : start + size] = 1
        for beside in (start - 1, start + size):
            if 0 <= beside < total and part[beside] == 0:
                part[beside] = 2
    return rows.filter(pa.array(part == 0)), rows.filter(pa.array(part == 1))


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


def _pairs(collection: Collection, passages: Sequence[str], size: int) -> Iterator[tuple[str, str]]:
    groups = collection.corpus["group"].to_pylist()
    positions = collection.corpus["position"].to_pylist()
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        if group is not None and passages[row].strip():
            members.setdefault(group, []).append(row)
    first = {group: rows[0] for group, rows in members.items()}
    for rows in members.values():
        # A document without a position comes after those that have one.
        rows.sort(key=lambda row: (positions[row] is None, positions[row] or 0, row))
    for row, group in enumerate(groups):
        rows = members.get(group, []) if group is not None else []
        if len(rows) < 2:
            yield from _lone(passages[row], size)
        elif (
            group is not None and row == first[group]
        ):  # the whole group stands where its first document stands
            yield from _chain([passages[one] for one in rows])


def _lone(text: str, size: int) -> Iterator[tuple[str, str]]:
    cut = windows(text, size)
    if len(cut) > 1:
        yield from _chain(cut)
    elif cut:
        words = cut[0].split()
        if len(words) == 1 and len(words[0]) >= 2 * _CHARS_PER_WORD:
            words, joint = list(words[0]), ""  # a script without spaces
        else:
            joint = " "
        half = len(words) // 2
        if half:
            yield joint.join(words[:half]), joint.join(words[half:])


def _chain(texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield from zip(texts, [*texts[1:], texts[-2]], strict=True)


def _size(text: str) -> int:
    return max(text.count(" ") + 1, len(text) // _CHARS_PER_WORD)


def _cut(sentence: str, size: int) -> Iterator[str]:
    """The sentence whole if it fits a window, else pieces of at most ``size`` words."""
    if _size(sentence) <= size:
        yield sentence
        return
    limit = size * _CHARS_PER_WORD
    words: list[str] = []
    for word in sentence.split():
        for start in range(0, len(word), limit):
            part = word[start : start + limit]
            if words and (len(words) == size or sum(map(len, words)) + len(part) > limit):
                yield " ".join(words)
                words = []
            words.append(part)
    yield " ".join(words)
