"""A collection as the pandas frames that the expectation suites under ``configs/expectations`` judge.

Expectations look at one row; what needs another table (does this document exist?) is worked out
here as a plain column, so that the suites stay readable.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from llara_core.data.collection import Collection

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Judged:
    """A frame, the suite that judges it, and the file it came from."""

    suite: str
    file: str
    frame: pd.DataFrame


def frames(collection: Collection) -> Iterator[Judged]:
    """Corpus, queries, every split's qrels, and one row a split; each with ``file`` and ``line``."""
    files = collection.files
    corpus = _readable(collection.corpus)
    queries = _readable(collection.queries)
    qrels = {split: _readable(table) for split, table in sorted(collection.qrels.items())}
    yield _judged("corpus", files.get("corpus", "corpus"), _with_passage(corpus))
    train = qrels["train"]["query_id"] if "train" in qrels else pa.chunked_array([], pa.string())
    yield _judged("queries", files.get("queries", "queries"), _with_leaks(queries, qrels, train))
    for split, table in qrels.items():
        file = files.get(f"qrels/{split}", f"qrels/{split}")
        known_query = pc.is_in(table["query_id"], value_set=queries["_id"])
        known_document = pc.is_in(table["corpus_id"], value_set=corpus["_id"])
        in_train = pc.is_in(table["query_id"], value_set=train)
        if split == "train":
            in_train = pa.array([False] * table.num_rows)
        relevant = pc.and_(pc.and_(known_query, known_document), pc.greater(table["score"], 0))
        table = table.append_column("known_query", known_query)  # noqa: PLW2901 - the same table, wider
        table = table.append_column("known_document", known_document)  # noqa: PLW2901
        yield _judged("qrels", file, table.append_column("query_in_train", in_train))
        counted = pc.count_distinct(table["query_id"].filter(relevant)).as_py()
        splits = pa.table({"split": [split], "queries_with_relevant": [counted]})
        yield _judged("splits", file, splits)


def _judged(suite: str, file: str, table: pa.Table) -> Judged:
    frame = table.to_pandas(types_mapper=None)
    frame["file"] = file
    return Judged(suite, file, frame)


def _readable(table: pa.Table) -> pa.Table:
    """The table with a column ``valid_utf8``; what cannot be decoded is shown with U+FFFD instead."""
    valid = [True] * table.num_rows
    for index, field in enumerate(table.schema):
        if not pa.types.is_string(field.type):
            continue
        try:
            table[field.name].validate(full=True)
        except pa.ArrowInvalid:
            raw = [one or b"" for one in table[field.name].cast(pa.binary()).to_pylist()]
            decoded = [one.decode("utf-8", "replace") for one in raw]
            valid = [
                known and text.encode() == one for known, text, one in zip(valid, decoded, raw, strict=True)
            ]
            table = table.set_column(index, field.name, pa.array(decoded, pa.string()))
    return table.append_column("valid_utf8", pa.array(valid, pa.bool_()))


def _with_passage(corpus: pa.Table) -> pa.Table:
    title, text = pc.fill_null(corpus["title"], ""), pc.fill_null(corpus["text"], "")
    return corpus.append_column("passage", pc.binary_join_element_wise(title, text, " "))


def _with_leaks(queries: pa.Table, qrels: dict[str, pa.Table], train: pa.ChunkedArray) -> pa.Table:
    """Adds ``text_in_train``: a query judged elsewhere stands word for word among the training queries."""
    texts = pc.utf8_lower(pc.utf8_trim_whitespace(pc.fill_null(queries["text"], "")))
    in_train = pc.is_in(queries["_id"], value_set=train)
    elsewhere = [table["query_id"].combine_chunks() for split, table in qrels.items() if split != "train"]
    others = pa.chunked_array(elsewhere, pa.string())
    candidate = pc.and_(pc.is_in(queries["_id"], value_set=others), pc.invert(in_train))
    leaked = pc.and_(candidate, pc.is_in(texts, value_set=texts.filter(in_train)))
    return queries.append_column("text_in_train", leaked)
