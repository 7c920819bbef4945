"""A collection as batches of rows for the expectation suites under ``configs/expectations``.

Expectations look at one row at a time; what needs other rows (does this document exist? does this id stand
twice?) is worked out before, by ``expectation_facts`` or here as a plain column, so that suites stay readable
and a batch gives the same answer as the whole table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llara_core.data.collection import Collection
from steps.expectation_facts import Facts, Gatherer, Lengths, hashed, is_among, pieces

if TYPE_CHECKING:
    import pandas as pd

# A batch is a pandas frame, of which Great Expectations makes several copies: memory follows these two. A
# batch costs some 0.2 s whatever its size, so much smaller ones would cost time.
BATCH_ROWS = 200_000
BATCH_BYTES = 64 << 20


@dataclass(frozen=True)
class Judged:
    """A table, the suite that judges it, and the file it came from.

    Args:
        suite: name of a file under ``configs/expectations``.
        file: for messages.
        table: N rows.
        facts: what the custom expectations know of the rows.
        widen: a slice of the table and the row it starts at → the same rows with more columns.
        sizes: bytes of text in each row after widening [N].
    """

    suite: str
    file: str
    table: pa.Table
    facts: Facts
    widen: Callable[[pa.Table, int], pa.Table] = lambda part, _start: part
    sizes: NDArray[np.int64] | None = None

    def batches(self, rows: int = BATCH_ROWS, size: int = BATCH_BYTES) -> Iterator[pd.DataFrame]:
        """The rows as frames, indexed by place in the table; an empty table gives one empty frame.

        Args:
            rows: the most in one batch.
            size: the most bytes of text in one batch, unless a single row has more.
        """
        import pandas as pd

        for start, stop in _cuts(self.table.num_rows, self.sizes, rows, size):
            frame = self.widen(self.table.slice(start, stop - start), start).to_pandas()
            frame.index = pd.RangeIndex(start, stop)
            yield frame


def frames(collection: Collection, lengths: Lengths | None = None) -> Iterator[Judged]:
    """Corpus, queries, and every split's qrels with one row about the split.

    Args:
        collection: what to judge.
        lengths: how tokens are counted; None: estimated.
    """
    files = collection.files
    collection = decoded(collection)
    corpus, queries, qrels = collection.corpus, collection.queries, collection.qrels
    others = {"corpus": corpus, "queries": queries}
    yield Judged(
        "corpus", files.get("corpus", "corpus"), corpus, Facts(corpus, others, lengths),
        with_passage, Gatherer(corpus["title"]).sizes + 2 * Gatherer(corpus["text"]).sizes,
    )  # fmt: skip
    train = qrels["train"]["query_id"] if "train" in qrels else pa.chunked_array([], pa.string())
    leaky = queries.append_column("text_in_train", pa.array(_leaked(queries, qrels, train)))
    yield Judged(
        "queries", files.get("queries", "queries"), leaky, Facts(leaky, others, lengths),
        sizes=Gatherer(queries["text"]).sizes,
    )  # fmt: skip
    for split, table in qrels.items():
        yield from _split(split, files.get(f"qrels/{split}", f"qrels/{split}"), table, train, others)


def decoded(collection: Collection) -> Collection:
    """The collection with ``valid_utf8`` in every table (``readable``); one that has it stays as it is."""
    if all("valid_utf8" in one.column_names for one in (collection.corpus, collection.queries)):
        return collection
    return replace(
        collection,
        corpus=readable(collection.corpus),
        queries=readable(collection.queries),
        qrels={split: readable(table) for split, table in sorted(collection.qrels.items())},
    )


def readable(table: pa.Table) -> pa.Table:
    """The table with a column ``valid_utf8``; what cannot be decoded is shown with U+FFFD instead."""
    valid = np.ones(table.num_rows, np.bool_)
    for index, field in enumerate(table.schema):
        if not pa.types.is_string(field.type):
            continue
        at, chunks = 0, []
        for chunk in table[field.name].chunks:
            try:
                chunk.validate(full=True)
                chunks.append(chunk)
            except pa.ArrowInvalid:
                raw = [one or b"" for one in chunk.cast(pa.binary()).to_pylist()]
                decoded = [one.decode("utf-8", "replace") for one in raw]
                same = [text.encode() == one for text, one in zip(decoded, raw, strict=True)]
                valid[at : at + len(chunk)] &= np.array(same)
                chunks.append(pa.array(decoded, pa.string()))
            at += len(chunk)
        table = table.set_column(index, field.name, pa.chunked_array(chunks, pa.string()))
    return table.append_column("valid_utf8", pa.array(valid))


def _cuts(count: int, sizes: NDArray[np.int64] | None, rows: int, size: int) -> Iterator[tuple[int, int]]:
    ends = None if sizes is None else np.cumsum(sizes)
    start = 0
    while start < count or start == 0:
        stop = min(start + rows, count)
        if ends is not None and stop > start:
            before = ends[start - 1] if start else 0
            stop = min(stop, max(start + 1, int(np.searchsorted(ends, before + size, "right"))))
        yield start, stop
        if stop >= count:
            return
        start = stop


def with_passage(corpus: pa.Table, _start: int = 0) -> pa.Table:
    """Return the rows with a column ``passage``: title and text."""
    title, text = pc.fill_null(corpus["title"], ""), pc.fill_null(corpus["text"], "")
    return corpus.append_column("passage", pc.binary_join_element_wise(title, text, " "))


def _split(
    split: str, file: str, table: pa.Table, train: pa.ChunkedArray, others: Mapping[str, pa.Table]
) -> Iterator[Judged]:
    in_train = np.zeros(table.num_rows, np.bool_) if split == "train" else is_among(table["query_id"], train)
    table = table.append_column("query_in_train", pa.array(in_train))
    facts = Facts(table, others)
    yield Judged("qrels", file, table, facts)
    known = facts.known("query_id", "queries") & facts.known("corpus_id", "corpus")
    relevant = known & np.asarray(pc.fill_null(pc.greater(table["score"], 0), False))
    counted = pc.count_distinct(table["query_id"].filter(pa.array(relevant))).as_py()
    row = pa.table({"split": [split], "queries_with_relevant": [counted]})
    yield Judged("splits", file, row, Facts(row, others))


def _leaked(queries: pa.Table, qrels: Mapping[str, pa.Table], train: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which queries are judged elsewhere and stand word for word among the training queries [N]."""
    in_train = is_among(queries["_id"], train)
    elsewhere = np.zeros(queries.num_rows, np.bool_)
    for split, table in qrels.items():
        if split != "train":
            elsewhere |= is_among(queries["_id"], table["query_id"])
    rows = np.flatnonzero(elsewhere | in_train)
    texts = Gatherer(queries["text"]).take(rows)
    parts = [key_of(part) for part in pieces(pa.chunked_array([texts]))]
    keys = hashed(pa.chunked_array(parts, pa.string()))
    alike = np.isin(keys, keys[in_train[rows]])  # by hash: the few that are left are compared as texts
    kept = pa.array(alike)
    texts, rows = key_of(texts.filter(kept)), rows[alike]
    found = pc.is_in(texts, value_set=texts.filter(pa.array(in_train[rows])))
    result = np.zeros(queries.num_rows, np.bool_)
    result[rows] = np.asarray(found, dtype=np.bool_)
    return result & ~in_train


def key_of(texts: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """What two texts have in common that differ only in case and in white space around them."""
    return pc.utf8_lower(pc.utf8_trim_whitespace(pc.fill_null(texts, "")))
