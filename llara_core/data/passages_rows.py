"""Documents → consecutive passages: the (text, next text) rows that adaptation learns from.

EBAE rebuilds a text from its embedding, EBAR predicts the text that follows it.
Source: LLaRA (Li et al. 2023), section 3.2: EBAR's target is the next sentence; here the next
passage of the same module or article, because retrieval units are passages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
from numpy.typing import NDArray

from llara_core.data.collection import Collection, passage_text
from llara_core.data.lazy import ROWS_AT_A_TIME
from llara_core.data.passages_split import Splitter
from llara_core.data.passages_words import halves, windows
from llara_core.data_settings import PassageSettings
from llara_core.errors import ConfigError, DataError
from llara_core.files import new_file
from llara_core.progress import Progress

ROWS_SCHEMA = pa.schema([("text", pa.string()), ("next_text", pa.string())])
_CHUNK = 20_000  # rows that stand as Python objects at a time


def adaptation_rows(
    collection: Collection,
    words_per_window: int = 100,
    *,
    passages: PassageSettings | None = None,
    tokenizer: Any = None,
    file: Path | None = None,
) -> pa.Table:
    """Pairs of consecutive passages of a corpus, in corpus order; deterministic.

    - Documents of one group follow each other by position (then by corpus order): each is paired
      with the next, the last with the one before it.
    - A document that is alone is cut at sentence ends into windows of about ``words_per_window``
      words: each is paired with the next, the last with the one before it.
    - A collection that brought rows of its own (``rows``) gives these.
    - A lone document of a single window is halved: its first half is paired with its second. One
      of a single word has nothing that follows, and is left out, as are empty documents.

    Some thousands of rows are held at a time, besides about 100 bytes a document where there are groups.

    Args:
        collection: its corpus is read, queries and qrels are not.
        words_per_window: words aimed at in a window; windows of one document are about equal.
        passages: cut lone documents by ``split_passages`` instead, at most so many tokens a window.
        tokenizer: what counts the tokens of ``passages``; see ``split_passages``.
        file: write the rows there and map them, so that they take no memory; None keeps them in memory.

    Returns:
        Table of ``text`` and ``next_text``, neither ever empty.

    Raises:
        ConfigError: ``words_per_window`` is below 2, or ``passages`` overlap: the text to predict must
            not be in the text that predicts it.
        DataError: the corpus gives no row, or ``file`` cannot be written.
    """
    if collection.rows is not None:
        return collection.rows  # made by somebody else (`input, output_predict`): taken as they are
    if words_per_window < 2:
        raise ConfigError(f"words_per_window: got {words_per_window}; a window of at least 2 words is needed")
    if passages is not None and passages.overlap:
        raise ConfigError(
            f"passages.overlap: got {passages.overlap}; adaptation predicts the next passage, so passages "
            "that share text would teach copying: set 0"
        )
    splitter = None if passages is None else Splitter(passages, tokenizer)
    batches = _batches(collection, _Cutter(words_per_window, splitter))
    first = next(batches, None)
    if first is None:
        raise DataError(
            f"no document of collection {collection.name!r} has two words, so nothing can be learnt from it",
            rule="adaptation_rows",
        )
    if file is None:
        return pa.Table.from_batches([first, *batches], schema=ROWS_SCHEMA)
    write_batches(chain([first], batches), ROWS_SCHEMA, file)
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def write_batches(batches: Iterable[pa.RecordBatch], schema: pa.Schema, file: Path) -> None:
    """Write batches as they come into an Arrow file, whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    with new_file(file) as target, pa.OSFile(str(target), "wb") as sink, pa.ipc.new_file(sink, schema) as out:
        for batch in batches:
            out.write_batch(batch)


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
        The training rows and the held-out rows, both in order; slices of ``rows``, so nothing is copied.

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
    training, held_out, done = [], [], 0
    for block in range(blocks):
        size = wanted * (block + 1) // blocks - wanted * block // blocks
        start = total * (2 * block + 1) // (2 * blocks) - size // 2
        held_out.append(rows.slice(start, size))
        training.append(rows.slice(done, max(0, start - 1 - done)))
        done = start + size + 1
    training.append(rows.slice(done))
    return pa.concat_tables(training), pa.concat_tables(held_out)


class _Cutter:
    """Lone documents → pairs, by words or by tokens."""

    def __init__(self, words: int, splitter: Splitter | None) -> None:
        self._words, self._splitter = words, splitter

    def pairs(self, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
        """The pairs of many lone documents, in order."""
        if self._splitter is None:
            cut: Iterable[list[str]] = (windows(text, self._words) for text in texts)
        else:
            cut = ([one.text for one in passages] for passages in self._splitter.split(texts))
        for pieces in cut:
            if len(pieces) > 1:
                yield from zip(pieces, [*pieces[1:], pieces[-2]], strict=True)
            elif pieces and (both := halves(pieces[0])):
                yield both


def _batches(collection: Collection, cutter: _Cutter) -> Iterator[pa.RecordBatch]:
    texts: list[str] = []
    following: list[str] = []
    for text, next_text in _pairs(collection, cutter):
        texts.append(text)
        following.append(next_text)
        if len(texts) == _CHUNK:
            yield pa.record_batch([texts, following], schema=ROWS_SCHEMA)
            texts, following = [], []
    if texts:
        yield pa.record_batch([texts, following], schema=ROWS_SCHEMA)


def _pairs(collection: Collection, cutter: _Cutter) -> Iterator[tuple[str, str]]:
    """The corpus as a row of units, lone documents and whole groups, each at its first document's place."""
    order, unit = _reading_order(collection)
    lone: list[str] = []
    held: list[str] = []  # the last two texts of the group that is being read
    with Progress("adaptation rows", collection.corpus.num_rows, "documents") as bar:
        for texts, starts, ends in _in_order(collection.corpus, order, unit):
            for text, begins, ends_here in zip(texts, starts, ends, strict=True):
                if begins and ends_here:
                    lone.append(text)
                    continue
                yield from cutter.pairs(lone)
                lone = []
                if not begins:
                    yield held[-1], text
                held = [text] if begins else [held[-1], text]
                if ends_here:
                    yield text, held[0]
            yield from cutter.pairs(lone)
            lone = []
            bar.update(len(texts))


def _reading_order(collection: Collection) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
    """Rows in the order in which they are read, and for each the row at which its unit stands.

    None for both where every document is alone and the order is the corpus's.
    """
    corpus = collection.corpus
    if corpus["group"].null_count == corpus.num_rows:
        return None, None
    rows = np.flatnonzero(_grouped_and_filled(corpus))
    codes = _codes(corpus["group"])[rows]
    _, first, members, sizes = np.unique(codes, return_index=True, return_inverse=True, return_counts=True)
    together = sizes[members] > 1
    unit = np.arange(corpus.num_rows)
    unit[rows[together]] = rows[first[members[together]]]
    # An empty document of a group is passed over; alone it gives nothing anyway.
    kept = np.ones(corpus.num_rows, bool)
    kept[np.flatnonzero(corpus["group"].is_valid().to_numpy(zero_copy_only=False))] = False
    kept[rows] = True
    order = np.flatnonzero(kept)
    missing = corpus["position"].is_null().to_numpy(zero_copy_only=False)[order]
    place = pc.fill_null(corpus["position"], 0).to_numpy()[order]
    # A document without a position comes after those that have one.
    order = order[np.lexsort((place, missing, unit[order]))]
    return order, unit[order]


def _grouped_and_filled(corpus: pa.Table) -> NDArray[np.bool_]:
    """Whether a document has a group and any text [N]."""
    found = []
    for batch in corpus.select(["title", "text", "group"]).to_batches(max_chunksize=ROWS_AT_A_TIME):
        titles, texts, groups = (column.to_pylist() for column in batch.columns)
        found.append(
            np.fromiter(
                (
                    group is not None
                    and not ((not text or text.isspace()) and (not title or title.isspace()))
                    for title, text, group in zip(titles, texts, groups, strict=True)
                ),
                bool,
                len(groups),
            )
        )
    return np.concatenate(found)


def _codes(groups: pa.ChunkedArray) -> NDArray[np.int32]:
    """A number a group [N], the same for the same name; whatever for none."""
    encoded = pc.dictionary_encode(groups, null_encoding="encode")
    return np.concatenate([chunk.indices.to_numpy(zero_copy_only=False) for chunk in encoded.chunks])


def _in_order(
    corpus: pa.Table, order: NDArray[np.int64] | None, unit: NDArray[np.int64] | None
) -> Iterator[tuple[list[str], list[bool], list[bool]]]:
    """Texts of some thousands of documents, and whether each begins and ends its unit."""
    table = corpus.select(["title", "text"])
    if order is None or unit is None:
        for batch in table.to_batches(max_chunksize=ROWS_AT_A_TIME):
            alone = [True] * batch.num_rows
            yield _texts(batch), alone, alone
        return
    begins = np.append(True, unit[1:] != unit[:-1])
    ends = np.append(begins[1:], True)
    reader = _Rows(table)
    for start in range(0, len(order), ROWS_AT_A_TIME):
        part = slice(start, start + ROWS_AT_A_TIME)
        yield _texts(reader.take(order[part])), begins[part].tolist(), ends[part].tolist()


class _Rows:
    """Rows by number; ``Table.take`` may join all chunks of a string column first, which takes its size."""

    def __init__(self, table: pa.Table) -> None:
        self._batches = table.to_batches()
        self._ends = np.cumsum([batch.num_rows for batch in self._batches])

    def take(self, rows: NDArray[np.int64]) -> pa.Table:
        """The rows in the order asked for."""
        if rows[-1] - rows[0] == len(rows) - 1 and bool((np.diff(rows) == 1).all()):
            return self._range(int(rows[0]), len(rows))
        where = np.searchsorted(self._ends, rows, side="right")
        parts, places = [], []
        for number in np.unique(where):
            mine = np.flatnonzero(where == number)
            batch = self._batches[number]
            parts.append(batch.take(pa.array(rows[mine] - (self._ends[number] - batch.num_rows))))
            places.append(mine)
        return pa.Table.from_batches(parts).take(pa.array(np.argsort(np.concatenate(places))))

    def _range(self, start: int, count: int) -> pa.Table:
        found, stop = [], start + count
        for number in range(int(np.searchsorted(self._ends, start, side="right")), len(self._batches)):
            batch = self._batches[number]
            begin = int(self._ends[number]) - batch.num_rows
            if begin >= stop:
                break
            found.append(
                batch.slice(max(0, start - begin), min(stop - begin, batch.num_rows) - max(0, start - begin))
            )
        return pa.Table.from_batches(found)


def _texts(rows: pa.Table | pa.RecordBatch) -> list[str]:
    titles, texts = (rows[name].to_pylist() for name in ("title", "text"))
    return [passage_text(title or "", text or "") for title, text in zip(titles, texts, strict=True)]
