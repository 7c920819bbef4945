"""Some rows of a corpus, read without the rest: from a bucket as from a disk of this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from llara_core.data.collection import passages_of
from llara_core.errors import DataError

Rows = NDArray[np.int64]


def open_corpus(source: Any) -> pa.RecordBatchFileReader:
    """A reader of ``corpus.arrow`` that fetches a batch when it is asked for.

    Args:
        source: an open file that can seek, e.g. of fsspec, or a path.

    Raises:
        DataError: it is no Arrow file.
    """
    try:
        opened = pa.memory_map(str(source)) if not hasattr(source, "read") else pa.PythonFile(source, "r")
        return pa.ipc.open_file(opened, options=pa.ipc.IpcReadOptions(use_threads=False))
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"not a stored corpus: {error}", file=str(source), rule="readable") from None


def batches_of(corpus: pa.RecordBatchFileReader) -> Iterator[tuple[int, Sequence[str]]]:
    """Rows and passages of every batch, one batch in memory at a time."""
    for number in range(corpus.num_record_batches):
        batch = corpus.get_batch(number)
        yield batch.num_rows, passages_of(pa.Table.from_batches([batch]))


def passages_at(corpus: pa.RecordBatchFileReader, lengths: Sequence[int], rows: Rows) -> Sequence[str]:
    """The passages of some rows; only the batches that hold one are read.

    Args:
        corpus: of ``open_corpus``.
        lengths: rows of each batch, as ``batches_of`` counted them: asking the file would read it all.
        rows: ascending.

    Raises:
        DataError: there are no such rows; the corpus is not the one that was counted.
    """
    if not len(rows):
        return []
    ends = np.cumsum(lengths)
    if len(lengths) != corpus.num_record_batches or rows[-1] >= ends[-1]:
        raise DataError(
            f"the corpus has {corpus.num_record_batches} batches, the plan counted {len(lengths)} of "
            f"{sum(lengths)} rows, and row {int(rows[-1])} is asked for; plan the shards anew"
        )
    parts = []
    for number in np.unique(np.searchsorted(ends, rows, side="right")).tolist():
        start = int(ends[number]) - int(lengths[number])
        inside = rows[(rows >= start) & (rows < ends[number])] - start
        batch = corpus.get_batch(number)
        if batch.num_rows != lengths[number]:
            raise DataError(
                f"batch {number} of the corpus has {batch.num_rows} rows, the plan counted "
                f"{lengths[number]}; plan the shards anew"
            )
        parts.append(pa.Table.from_batches([batch]).select(["title", "text"]).take(pa.array(inside)))
    return passages_of(pa.concat_tables(parts))
