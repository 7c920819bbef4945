"""What changed between two versions of a collection: documents, queries and judgements. Issue 5, point 7.

Rows are told apart by hashes: 24 bytes a document of each version are kept, texts are looked at some
megabytes at a time, and only the examples are ever made into strings. With ten million rows a change is
overlooked with a chance of about 3 in a million (two texts with the same 64 bits).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llara_core.data.collection import NEGATIVES_SCHEMA, QRELS_SCHEMA, Collection
from llara_core.data.diff_examples import Examples
from llara_core.data.profile_sketch import slices, text_hashes
from llara_core.progress import Progress

SCHEMA = 1
EXAMPLES = 5  # shown of each kind of change
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: spreads small numbers over all bits
Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]


class Renames(NamedTuple):
    """Hashes of ids that were renamed, those before sorted, [R] each."""

    before: Hashes
    after: Hashes


class _Table(NamedTuple):
    """Hashes of a table's rows, [N] each."""

    ids: Hashes
    texts: Hashes  # what a person reads
    whole: Hashes  # the text and where it stands (group and position)


def diff(a: Collection, b: Collection, *, examples: int = EXAMPLES) -> dict[str, Any]:
    """Say what must happen to ``a`` for it to become ``b``; the order of rows does not matter.

    A document of ``a`` is matched with one of ``b`` in this order: same id and same content (*unchanged*);
    same id and text, other group or position (*moved*); same text under another id (*renamed*); same id,
    other text (*changed*). What is left over was *removed* or *added*. Judgements that only follow a renamed
    document or query are *renamed* too.

    Args:
        a: the earlier version; may be memory-mapped.
        b: the later one.
        examples: of each kind of change, so many are shown, in the order of the rows.

    Returns:
        Plain JSON values: ``schema``, ``identical`` (equal content hashes), ``a`` and ``b`` (``name``,
        ``content_hash``); ``documents``, ``queries`` and ``judgements`` (split → …), each with ``before``
        and ``after`` (rows), ``unchanged``, ``moved`` (documents only), ``renamed``, ``changed``,
        ``removed``, ``added`` (rows) and ``examples`` (kind → list; see ``diff_examples``). Always
        ``before = unchanged + moved + renamed + changed + removed``, and ``after`` likewise with ``added``.
        Where one of them has given negatives or adaptation rows, ``negatives`` and ``rows`` say the same of
        these (a row of adaptation is unchanged, added or removed).
    """
    documents, renamed_documents = _texts_diff(
        a.corpus, b.corpus, ("title", "text"), ("group", "position"), examples, "compare documents"
    )
    queries, renamed_queries = _texts_diff(a.queries, b.queries, ("text",), (), examples, "compare queries")
    none = QRELS_SCHEMA.empty_table()
    renames = {"query_id": renamed_queries, "corpus_id": renamed_documents}
    return {
        "schema": SCHEMA,
        "identical": a.content_hash == b.content_hash,
        "a": {"name": a.name, "content_hash": a.content_hash},
        "b": {"name": b.name, "content_hash": b.content_hash},
        "documents": documents,
        "queries": queries,
        "judgements": {
            split: _judgements_diff(a.qrels.get(split, none), b.qrels.get(split, none), renames, examples)
            for split in sorted({*a.qrels, *b.qrels})
        },
        **_extras(a, b, renames, examples),
    }


def _extras(a: Collection, b: Collection, renames: dict[str, Renames], examples: int) -> dict[str, Any]:
    """Differences of the tables that most collections do not have."""
    result = {}
    if a.negatives is not None or b.negatives is not None:
        none = NEGATIVES_SCHEMA.empty_table()
        old, new = (none if one.negatives is None else one.negatives for one in (a, b))
        result["negatives"] = _judgements_diff(old, new, renames, examples)
    found = a.rows if a.rows is not None else b.rows
    if found is not None:
        none = found.schema.empty_table()
        old, new = (none if one.rows is None else one.rows for one in (a, b))
        open_a, open_b = np.ones(old.num_rows, np.bool_), np.ones(new.num_rows, np.bool_)
        unchanged, _ = _match(_row_hashes(old), _row_hashes(new), open_a, open_b)
        shown = Examples(old, new, ("text",), (), examples)
        removed, added = np.flatnonzero(open_a), np.flatnonzero(open_b)
        result["rows"] = {
            "before": old.num_rows,
            "after": new.num_rows,
            "unchanged": len(unchanged),
            "removed": len(removed),
            "added": len(added),
            "examples": {"removed": shown.alone(old, removed), "added": shown.alone(new, added)},
        }
    return result


def _row_hashes(table: pa.Table) -> Hashes:
    parts = [text_hashes(batch.columns) for batch in slices(table, ("text", "next_text"))]
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def _texts_diff(
    a: pa.Table, b: pa.Table, text: Sequence[str], place: Sequence[str], examples: int, stage: str
) -> tuple[dict[str, Any], Renames]:
    with Progress(stage, total=a.num_rows + b.num_rows, unit="rows") as bar:
        old, new = _hashed(a, text, place, bar), _hashed(b, text, place, bar)
    open_a, open_b = np.ones(a.num_rows, np.bool_), np.ones(b.num_rows, np.bool_)
    unchanged, _ = _match(_mixed(old.ids, old.whole), _mixed(new.ids, new.whole), open_a, open_b)
    moved, moved_to = _match(_mixed(old.ids, old.texts), _mixed(new.ids, new.texts), open_a, open_b)
    renamed, renamed_to = _match(old.texts, new.texts, open_a, open_b)
    changed, changed_to = _match(old.ids, new.ids, open_a, open_b)
    removed, added = np.flatnonzero(open_a), np.flatnonzero(open_b)
    shown = Examples(a, b, text, place, examples)
    result = {
        "before": a.num_rows,
        "after": b.num_rows,
        "unchanged": len(unchanged),
        **({"moved": len(moved)} if place else {}),
        "renamed": len(renamed),
        "changed": len(changed),
        "removed": len(removed),
        "added": len(added),
        "examples": {
            **({"moved": shown.moved(moved, moved_to)} if place else {}),
            "renamed": shown.renamed(renamed, renamed_to),
            "changed": shown.changed(changed, changed_to),
            "removed": shown.alone(a, removed),
            "added": shown.alone(b, added),
        },
    }
    before, after = old.ids[renamed], new.ids[renamed_to]
    order = np.argsort(before)
    return result, Renames(before[order], after[order])


def _hashed(table: pa.Table, text: Sequence[str], place: Sequence[str], bar: Progress) -> _Table:
    ids, texts, places = (np.zeros(table.num_rows, np.uint64) for _ in range(3))
    start = 0
    for batch in slices(table, ["_id", *text, *place]):
        rows = slice(start, start + batch.num_rows)
        ids[rows] = text_hashes([batch["_id"]])
        texts[rows] = text_hashes([pc.fill_null(batch[name], "") for name in text])
        if place:
            places[rows] = text_hashes([batch[name].cast(pa.large_string()) for name in place])
        start += batch.num_rows
        bar.update(batch.num_rows)
    return _Table(ids, texts, _mixed(texts, places) if place else texts)


def _match(a: Hashes, b: Hashes, open_a: NDArray[np.bool_], open_b: NDArray[np.bool_]) -> tuple[Rows, Rows]:
    """Pairs of open rows with equal hashes, each row in one pair; they are closed. In the order of ``a``."""
    rows_a, rows_b = np.flatnonzero(open_a), np.flatnonzero(open_b)
    _, left, right = np.intersect1d(
        _numbered(a[rows_a]), _numbered(b[rows_b]), assume_unique=True, return_indices=True
    )
    order = np.argsort(left)
    found_a, found_b = rows_a[left[order]], rows_b[right[order]]
    open_a[found_a] = False
    open_b[found_b] = False
    return found_a, found_b


def _numbered(hashes: Hashes) -> Hashes:
    """Distinct hashes of the same rows: equal ones get their number, so that twice is not once."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    again = np.zeros(len(hashes), np.bool_)
    np.equal(ordered[1:], ordered[:-1], out=again[1:])
    if not again.any():
        return hashes
    places = np.arange(len(hashes), dtype=np.int64)
    number = places - np.maximum.accumulate(np.where(again, 0, places))
    result = np.empty_like(hashes)
    result[order] = ordered + number.astype(np.uint64) * _ODD
    return result


def _mixed(first: Hashes, second: Hashes) -> Hashes:
    """One hash of two, in which their order counts (the finaliser of splitmix64 between them)."""
    value = first * _ODD + np.uint64(1)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: Hashes = (value ^ (value >> np.uint64(31))) + second
    return result


def _judgements_diff(a: pa.Table, b: pa.Table, renames: dict[str, Renames], examples: int) -> dict[str, Any]:
    old, new = _pairs(a), _pairs(b)
    grades_a, grades_b = _grades(a), _grades(b)
    open_a, open_b = np.ones(a.num_rows, np.bool_), np.ones(b.num_rows, np.bool_)
    pairs_b = _mixed(*new)
    unchanged, _ = _match(_mixed(_mixed(*old), grades_a), _mixed(pairs_b, grades_b), open_a, open_b)
    named = [_renamed(ids, renames[name]) for ids, name in zip(old, ("query_id", "corpus_id"), strict=True)]
    pairs_a = _mixed(*named)
    renamed, renamed_to = _match(_mixed(pairs_a, grades_a), _mixed(pairs_b, grades_b), open_a, open_b)
    changed, changed_to = _match(pairs_a, pairs_b, open_a, open_b)
    removed, added = np.flatnonzero(open_a), np.flatnonzero(open_b)
    shown = Examples(a, b, (), (), examples)
    return {
        "before": a.num_rows,
        "after": b.num_rows,
        "unchanged": len(unchanged),
        "renamed": len(renamed),
        "changed": len(changed),
        "removed": len(removed),
        "added": len(added),
        "examples": {
            "renamed": shown.judged_again(renamed, renamed_to),
            "changed": shown.judged_again(changed, changed_to),
            "removed": shown.judged(a, removed),
            "added": shown.judged(b, added),
        },
    }


def _pairs(table: pa.Table) -> tuple[Hashes, Hashes]:
    """Hashes of query and document ids, [J] each."""
    result = np.zeros((2, table.num_rows), np.uint64)
    start = 0
    for batch in slices(table, ("query_id", "corpus_id")):
        for row, column in enumerate(batch.columns):
            result[row, start : start + batch.num_rows] = text_hashes([column])
        start += batch.num_rows
    return result[0], result[1]


def _grades(table: pa.Table) -> Hashes:
    if "score" not in table.column_names:  # negatives have no grade
        return np.zeros(table.num_rows, np.uint64)
    grades: Hashes = np.asarray(pc.fill_null(table["score"], 0)).astype(np.int64).view(np.uint64)
    return grades


def _renamed(ids: Hashes, renames: Renames) -> Hashes:
    """The same hashes, those of renamed ids replaced by the new ids'."""
    if not len(renames.before):
        return ids
    places = np.minimum(np.searchsorted(renames.before, ids), len(renames.before) - 1)
    return np.where(renames.before[places] == ids, renames.after[places], ids)
