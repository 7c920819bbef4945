"""Training pairs and hard negatives as batches for their suites: ids, widened by the texts they stand for."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llara_core.data.collection import Collection
from llara_core.errors import DataError
from steps.expectation_facts import Facts, Gatherer, Lengths, is_among
from steps.frames import Judged, decoded, key_of, readable, with_passage

_MINED = {"source": pa.string(), "rank": pa.int32(), "score": pa.float32()}


def pairs(collection: Collection, split: str, lengths: Lengths | None = None) -> Judged:
    """The relevant judgements of a split with their texts in ``query`` and ``passage``: what is trained on.

    Judgements of unknown queries and documents are left out, as training does; the suite of the qrels
    names them.

    Raises:
        DataError: there is no such split.
    """
    if split not in collection.qrels:
        have = ", ".join(sorted(collection.qrels)) or "none"
        raise DataError(f"no split {split!r} in {collection.name!r} (it has: {have})", rule="split_exists")
    collection = decoded(collection)
    table = _relevant(collection.qrels[split])
    known = is_among(table["query_id"], collection.queries["_id"])
    known &= is_among(table["corpus_id"], collection.corpus["_id"])
    file = collection.files.get(f"qrels/{split}", f"qrels/{split}")
    return _texts("training_pairs", file, table.filter(pa.array(known)), collection, lengths)


def negatives(collection: Collection, table: pa.Table, file: str, lengths: Lengths | None = None) -> Judged:
    """Hard negatives with their texts, ``line``, and ``judged_relevant`` in any split.

    Args:
        collection: whose queries and documents they name.
        table: ``query_id`` and ``corpus_id`` [N]; ``source``, ``rank`` and ``score`` are null where missing.
        file: for messages.
        lengths: how tokens are counted; None: estimated.

    Raises:
        DataError: a column of ids is missing.
    """
    for name in ("query_id", "corpus_id"):
        if name not in table.column_names:
            have = ", ".join(table.column_names)
            raise DataError(f"hard negatives need a column {name!r} (there are: {have})", rule="valid_rows")
    collection = decoded(collection)
    table = readable(table)
    if "line" not in table.column_names:
        table = table.append_column("line", pa.array(np.arange(1, table.num_rows + 1, dtype=np.int32)))
    for name, kind in _MINED.items():
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, kind))
    relevant = np.zeros(table.num_rows, np.bool_)
    for judged in collection.qrels.values():
        relevant |= _same_pairs(table, _relevant(judged))
    table = table.append_column("judged_relevant", pa.array(relevant))
    return _texts("mined_negatives", file, table, collection, lengths)


def _relevant(table: pa.Table) -> pa.Table:
    return table.filter(pc.fill_null(pc.greater(table["score"], 0), False))


def _texts(suite: str, file: str, table: pa.Table, collection: Collection, lengths: Lengths | None) -> Judged:
    """A table of query and document ids, widened by their texts batch by batch."""
    corpus, queries = collection.corpus, collection.queries
    query_rows = _rows(table["query_id"], queries["_id"])
    document_rows = _rows(table["corpus_id"], corpus["_id"])
    query, title, text = (Gatherer(one) for one in (queries["text"], corpus["title"], corpus["text"]))

    def widen(part: pa.Table, start: int) -> pa.Table:
        rows = slice(start, start + part.num_rows)
        documents = pa.table(
            {"title": title.take(document_rows[rows]), "text": text.take(document_rows[rows])}
        )
        queries_of, known = query.take(query_rows[rows]), pa.array(document_rows[rows] >= 0)
        # A document that is not there has no text to complain of; that it is missing is said once.
        passages = pc.if_else(known, with_passage(documents)["passage"], pa.scalar(None, pa.string()))
        same = pc.equal(key_of(queries_of), key_of(documents["text"]))
        alike = pc.and_(same, pc.not_equal(key_of(queries_of), ""))
        for name, column in (("query", queries_of), ("passage", passages), ("texts_alike", alike)):
            part = part.append_column(name, column)
        return part

    bytes_of = np.append(title.sizes + text.sizes, 0)  # the last one stands for unknown documents
    sizes = np.append(query.sizes, 0)[query_rows] + bytes_of[document_rows]
    return Judged(
        suite, file, table, Facts(table, {"corpus": corpus, "queries": queries}, lengths), widen, sizes
    )


def _rows(column: pa.ChunkedArray, ids: pa.ChunkedArray) -> NDArray[np.int64]:
    """The first row of each id [N], -1 where there is none."""
    wanted = np.asarray(pc.is_in(ids, value_set=pc.unique(column)), dtype=np.bool_)
    rows = np.flatnonzero(wanted)
    places = pc.index_in(column, value_set=ids.filter(pa.array(wanted)))
    found = np.asarray(pc.fill_null(places, len(rows)), dtype=np.int64)
    return np.append(rows, -1)[found]


def _same_pairs(table: pa.Table, positive: pa.Table) -> NDArray[np.bool_]:
    """Which rows' query and document are a pair of the other table [N]."""
    codes = []
    for name in ("query_id", "corpus_id"):
        known = pc.unique(positive[name])
        codes.append(
            [
                np.asarray(pc.fill_null(pc.index_in(one[name], value_set=known), -1), dtype=np.int64)
                for one in (table, positive)
            ]
        )
    (query, of_query), (document, of_document) = codes
    width = np.int64(1 << 32)
    return np.isin(query * width + document, of_query * width + of_document) & (query >= 0) & (document >= 0)
