"""What expectations need to know of more than one row, worked out with Arrow and numpy.

A batch of rows cannot tell by itself whether an id stands twice in the table or whether a document exists.
Both are worked out once per table, as one truth value a row, before its batches are judged; nothing here
makes a Python set or list of a table's strings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llara_core.errors import ConfigError

COUNTED_ROWS = 20_000  # tables up to this many rows are counted by the tokenizer, others estimated
_PIECE = 100_000  # rows looked at at a time
# Runs of up to five letters, single digits, every other sign: within 4 to 13% of LLaMA 2's token counts on
# English text, on arguments and on Python code (tests/steps/test_expectation_facts.py).
_TOKENS = r"[A-Za-z]{1,5}|[0-9]|[^\sA-Za-z0-9]"


@dataclass(frozen=True)
class Lengths:
    """How long texts may be for the model, and how their tokens are counted.

    Args:
        passage_length: tokens of a passage that the model reads (``model.passage_length``).
        query_length: the same of a query.
        count: N texts → N token counts, by the run's tokenizer; None: an estimate from the words. It is
            asked for tables of up to ``COUNTED_ROWS`` rows: a tokenizer reads some thousand texts a second,
            so millions would take hours.
    """

    passage_length: int
    query_length: int
    count: Callable[[Sequence[str]], Sequence[int]] | None = None

    @property
    def parameters(self) -> dict[str, int]:
        """What suites name by ``{"$PARAMETER": …}``."""
        return {"passage_length": self.passage_length, "query_length": self.query_length}


class Facts:
    """What is known of one table's rows from other rows and tables.

    Args:
        table: N rows.
        others: tables whose ``_id`` can be referred to, by name.
        lengths: how tokens are counted; None: estimated.
    """

    def __init__(
        self, table: pa.Table, others: Mapping[str, pa.Table], lengths: Lengths | None = None
    ) -> None:
        self._table, self._others, self._lengths = table, others, lengths
        self._known: dict[tuple[str, str], NDArray[np.bool_]] = {}
        self._single: dict[tuple[str, ...], NDArray[np.bool_]] = {}

    def known(self, column: str, among: str) -> NDArray[np.bool_]:
        """Whether each row's value is an ``_id`` of another table [N].

        Raises:
            ConfigError: there is no such table or column.
        """
        if among not in self._others:
            raise ConfigError(
                f"no table {among!r} to refer to (there are: {', '.join(sorted(self._others))})"
            )
        if (column, among) not in self._known:
            self._known[column, among] = is_among(self._column(column), self._others[among]["_id"])
        return self._known[column, among]

    def single(self, columns: Sequence[str]) -> NDArray[np.bool_]:
        """Whether each row's values in these columns stand in no other row [N].

        Raises:
            ConfigError: there is no such column.
        """
        key = tuple(columns)
        if key not in self._single:
            self._single[key] = ~repeated([self._column(name) for name in key])
        return self._single[key]

    def tokens(self, texts: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
        """Tokens of some texts of this table, counted or estimated [n]."""
        if self._lengths is None or self._lengths.count is None or self._table.num_rows > COUNTED_ROWS:
            return estimated_tokens(texts)
        return np.asarray(self._lengths.count([text or "" for text in texts.to_pylist()]), np.int64)

    def _column(self, name: str) -> pa.ChunkedArray:
        if name not in self._table.column_names:
            have = ", ".join(self._table.column_names)
            raise ConfigError(f"no column {name!r} to look up (there are: {have})")
        return self._table[name]


# Great Expectations hands a metric one column of one batch and nothing else, so what it is to be compared
# with stands here while a table is judged; a row's index in its frame is its place in the table.
_current: ContextVar[Facts] = ContextVar("facts of the table that is judged")


@contextlib.contextmanager
def judging(facts: Facts) -> Iterator[None]:
    """Let the custom expectations see these facts."""
    token = _current.set(facts)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Facts:
    """The facts of the table that is judged just now."""
    return _current.get()


def is_among(column: pa.ChunkedArray, ids: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Whether each value is one of the ids [N]; a null never is.

    Args:
        column: N values.
        ids: M values; of these only those that the column names are hashed, so few rows that refer to a
            corpus of millions cost little.
    """
    named = ids.filter(pc.is_in(ids, value_set=pc.unique(column)))
    found = pc.is_in(column, value_set=pc.drop_null(pc.unique(named)))
    return np.asarray(found, dtype=np.bool_)


def repeated(columns: Sequence[pa.ChunkedArray]) -> NDArray[np.bool_]:
    """Which rows share all these columns' values with another row [N].

    64-bit hashes find the rows that may be alike, 8 bytes each; these are then compared exactly.

    Args:
        columns: one or more of N values each.
    """
    count = len(columns[0])
    hashes = np.zeros(count, np.uint64)
    for column in columns:
        hashes *= np.uint64(0x9E3779B97F4A7C15)  # an odd number: ("a", "b") and ("b", "a") must differ
        hashes += hashed(column)
    order = np.argsort(hashes)
    alike = hashes[order[1:]] == hashes[order[:-1]]
    del hashes
    maybe = np.zeros(count, np.bool_)
    maybe[order[1:][alike]] = True
    maybe[order[:-1][alike]] = True
    rows = np.flatnonzero(maybe)
    result = np.zeros(count, np.bool_)
    if len(rows):
        codes = np.zeros(len(rows), np.int64)
        for column in columns:
            values = column.filter(pa.array(maybe))
            places = np.asarray(pc.index_in(values, value_set=pc.unique(values)), dtype=np.int64)
            codes = np.unique(codes * (places.max() + 1) + places, return_inverse=True)[1]
        result[rows] = np.bincount(codes)[codes] > 1
    return result


def hashed(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """A 64-bit hash of each value [N], the same for equal values; null hashes as a value of its own."""
    from pandas.util import hash_array

    result = np.empty(len(column), np.uint64)
    at = 0
    for piece in pieces(column):
        values = piece.cast(pa.binary()) if pa.types.is_string(piece.type) else piece
        objects = values.to_numpy(zero_copy_only=False)
        result[at : at + len(piece)] = hash_array(objects, categorize=False)
        at += len(piece)
    return result


def pieces(column: pa.ChunkedArray, rows: int = _PIECE) -> Iterator[pa.Array]:
    """A column's values in order, at most so many at a time, none of them copied."""
    for chunk in column.chunks:
        for start in range(0, len(chunk), rows):
            yield chunk.slice(start, rows)


def estimated_tokens(texts: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """About how many tokens a text has for a LLaMA-like tokenizer [N]; a null has none."""
    counted = pc.count_substring_regex(pc.fill_null(texts, ""), _TOKENS)
    return np.asarray(counted, dtype=np.int64)


class Gatherer:
    """Texts of given rows of a column, however the column is cut into chunks.

    Arrow's own ``take`` may join all chunks first, and a corpus of more than 2 GB does not fit into one.

    Args:
        column: N values.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._chunks = column.chunks
        self._type = column.type
        self._starts = np.cumsum([0, *map(len, self._chunks)])

    def take(self, rows: NDArray[np.int64]) -> pa.Array:
        """The values of these rows [n]; null where a row is negative."""
        if not len(rows) or not self._chunks:
            return pa.nulls(len(rows), self._type)
        order = np.argsort(rows, kind="stable")
        bounds = np.searchsorted(rows[order], self._starts)
        parts = [pa.nulls(int(bounds[0]), self._type)]
        for place, chunk in enumerate(self._chunks):
            wanted = rows[order[bounds[place] : bounds[place + 1]]] - self._starts[place]
            parts.append(chunk.take(pa.array(wanted)))
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        return pa.concat_arrays(parts).take(pa.array(back))

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Bytes of every value [N], 0 of a null."""
        parts = [np.asarray(pc.fill_null(pc.binary_length(chunk), 0), np.int64) for chunk in self._chunks]
        return np.concatenate([np.zeros(0, np.int64), *parts])
