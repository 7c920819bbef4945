"""What a model remembers of the data it was made from. Issue 5, point 7.

Names, hashes and counts only: no rows, and no places, which may be private.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llara_core.data.collection import Collection

# Of a collection's report: the format, pinned revisions of a hub's data set, and rows read and put aside.
_PLAIN = ("format", "revision", "commit")
_COUNTS = ("read", "accepted", "quarantined", "flagged", "repaired", "repeated", "dropped")
_DUPLICATES = ("passages", "clusters", "repeats", "exact_repeats", "near_repeats", "removed")
_LEAKS = ("split", "train_split", "action", "evaluation_queries", "leaking_queries")


def lineage(collection: Collection) -> dict[str, Any]:
    """One record of a collection, JSON-able.

    Returns:
        ``name``, ``content_hash``, ``documents``, ``queries``, ``judgements`` (split → rows); where its
        report knows them ``format``, ``revision``, ``commit``, ``rows`` (counts of the ingestion) and the
        figures of ``duplicates`` and ``leaks``.
    """
    report = collection.report
    parts = {"rows": _COUNTS, "duplicates": _DUPLICATES, "leaks": _LEAKS}
    return {
        "name": collection.name,
        "content_hash": collection.content_hash,
        "documents": collection.corpus.num_rows,
        "queries": collection.queries.num_rows,
        "judgements": {split: table.num_rows for split, table in sorted(collection.qrels.items())},
        **{key: str(report[key]) for key in _PLAIN if report.get(key)},
        **{
            name: {key: report[name][key] for key in keys if key in report[name]}
            for name, keys in parts.items()
            if isinstance(report.get(name), Mapping)
        },
    }


def with_findings(collection: Collection, **reports: Mapping[str, Any]) -> Collection:
    """The collection with the figures of ``duplicates`` and ``leaks`` in its report, without their examples.

    Args:
        collection: whose content hash stays what it is.
        reports: ``duplicates`` and ``leaks``, as ``Duplicates.report`` and ``Leaks.report`` are.
    """
    keys = {"duplicates": _DUPLICATES, "leaks": _LEAKS}
    figures = {
        name: {key: report[key] for key in keys[name] if key in report} for name, report in reports.items()
    }
    return replace(collection, report={**collection.report, **figures})


def joined(
    known: Sequence[Mapping[str, Any]], record: Mapping[str, Any], stage: str
) -> tuple[Mapping[str, Any], ...]:
    """The records with one more, or its stage noted where the same content is there already.

    Args:
        known: records with ``stages``.
        record: of ``lineage``.
        stage: that used the collection.
    """
    key = record["name"], record["content_hash"]
    result = list(known)
    for place, one in enumerate(result):
        if (one["name"], one["content_hash"]) == key:
            stages = [*one["stages"], *([stage] if stage not in one["stages"] else [])]
            result[place] = {**one, **record, "stages": stages}
            return tuple(result)
    return (*result, {**record, "stages": [stage]})
