"""Texts that stay in an Arrow table until they are asked for: a million cost no memory of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, SupportsIndex, overload

import pyarrow as pa

ROWS_AT_A_TIME = 4096  # rows turned into Python strings at once while iterating


class LazyTexts(Sequence[str]):
    """One string a row of a table, made anew whenever it is asked for; otherwise as a list behaves.

    Indexing, negative indices, slices (which are plain lists), ``in``, ``len``, iteration in record batches,
    and equality with any sequence of the same strings.

    Args:
        table: N rows; may be memory-mapped.
        columns: what a string is made of.
        make: values of these columns → the string.

    Source: issue 4, point 1 (flat memory).
    """

    __hash__ = None  # type: ignore[assignment]  # equal to a list, which has none either

    def __init__(self, table: pa.Table, columns: Sequence[str], make: Callable[..., str]) -> None:
        self._table = table.select(list(columns))
        self._columns = [table[name] for name in columns]
        self._make = make

    def __len__(self) -> int:
        """N."""
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[str]:
        """The texts in order, some thousands of them in memory at a time."""
        return _texts(self._table, self._make)

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> str | list[str]:
        """The text of a row, or those of a slice as a list.

        Raises:
            IndexError: there is no such row.
        """
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return list(_texts(self._table.slice(start, max(0, stop - start)), self._make))
            return [self[row] for row in range(start, stop, step)]
        row = index.__index__()
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} texts")
        row %= len(self)
        return self._make(*(column[row].as_py() for column in self._columns))

    def __eq__(self, other: object) -> bool:
        """Whether the other sequence holds the same strings in the same order."""
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    def __repr__(self) -> str:
        """The first few texts and how many there are."""
        return f"LazyTexts({self[:3]!r}{', …' if len(self) > 3 else ''}; {len(self)} texts)"


def _texts(table: pa.Table, make: Callable[..., str]) -> Iterator[str]:
    for batch in table.to_batches(max_chunksize=ROWS_AT_A_TIME):
        columns: list[list[Any]] = [column.to_pylist() for column in batch.columns]
        yield from map(make, *columns)
