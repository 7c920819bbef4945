"""Some rows of a corpus are read without the rest, and are the rows that were asked for."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest

from llara_core.data.collection import CORPUS_SCHEMA, passages_of
from llara_core.data.corpus_range import batches_of, open_corpus, passages_at
from llara_core.errors import DataError


class Counted(io.BytesIO):
    """A file that counts what is read of it, as a bucket's bill does."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        got = super().read(size)
        self.taken += len(got)
        return got


def corpus(rows: int = 1000, batch: int = 100) -> tuple[bytes, pa.Table]:
    """Rows of a text of 1,000 characters, in batches, the last one short."""
    some = [{"_id": f"d{row}", "title": f"t{row % 7}", "text": f"{row} " + "x" * 1000} for row in range(rows)]
    table = pa.Table.from_pylist(some, CORPUS_SCHEMA)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch)
    return sink.getvalue().to_pybytes(), table


@pytest.mark.parametrize("rows", [[0], [999], [99, 100], [3, 250, 251, 960], list(range(1000)), []])
def test_the_rows_that_were_asked_for(rows: list[int]) -> None:
    raw, table = corpus(1000, 96)
    lengths = [length for length, _ in batches_of(open_corpus(io.BytesIO(raw)))]
    assert sum(lengths) == 1000 and len(lengths) == 11
    found = passages_at(open_corpus(io.BytesIO(raw)), lengths, np.array(rows, np.int64))
    every = passages_of(table)
    assert list(found) == [every[row] for row in rows]


def test_only_the_batches_that_hold_them_are_read() -> None:
    raw, _ = corpus()
    source = Counted(raw)
    found = passages_at(open_corpus(source), [100] * 10, np.arange(210, 290))
    assert found[0].endswith("x" * 1000) and len(found) == 80
    assert len(raw) / 10 < source.taken < len(raw) / 5


def test_from_a_path(tmp_path: Path) -> None:
    raw, _ = corpus(10)
    (tmp_path / "corpus.arrow").write_bytes(raw)
    assert len(passages_at(open_corpus(tmp_path / "corpus.arrow"), [10], np.arange(10))) == 10


def test_another_corpus_than_was_planned_for(tmp_path: Path) -> None:
    raw, _ = corpus()
    with pytest.raises(DataError, match="the plan counted 9 of 900 rows, and row 950 is asked for"):
        passages_at(open_corpus(io.BytesIO(raw)), [100] * 9, np.array([950]))
    with pytest.raises(DataError, match="batch 1 of the corpus has 100 rows, the plan counted 90"):
        passages_at(open_corpus(io.BytesIO(raw)), [100, 90, *[100] * 8], np.array([150]))
    (tmp_path / "corpus.arrow").write_text("no corpus")
    with pytest.raises(DataError, match="not a stored corpus"):
        open_corpus(tmp_path / "corpus.arrow")
