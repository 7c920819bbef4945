"""Which results may stand side by side: those of the same queries, corpus, split and protocol.

A difference between numbers that answer different questions looks exactly like a gain, so whatever does
not match is refused by name rather than averaged over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llara_core.data.collection import Collection
from llara_core.errors import DataError
from llara_core.evaluation.results import SystemResult

_NAMED = 5  # ids named in a message
# What a protocol tells of the system and of how it is listed, rather than of the question put to it.
_OF_THE_SYSTEM = frozenset({"model", "metrics", "set", "public", "mteb_task"})


def protocol_of(result: SystemResult) -> dict[str, Any]:
    """How the question was put, as recorded with a result: split, self-match policy, relevance cut, data.

    Empty where nothing was recorded. What names the system (its model, its metrics) is left out.
    """
    return {key: value for key, value in result.protocol.items() if key not in _OF_THE_SYSTEM}


def comparable(
    results: Mapping[str, Sequence[SystemResult]], metric: str, baseline: str | None
) -> tuple[dict[str, list[SystemResult]], list[str], list[str]]:
    """Check that results may be compared, and put every collection's queries into one order.

    Args:
        results: collection name to the systems judged on it.
        metric: the per-query score to compare by.
        baseline: the system that the others are compared with; None: the first.

    Returns:
        The results with queries in the order of the first system's, the names of the systems with the
        baseline first, and remarks for the reader.

    Raises:
        DataError: there is nothing to compare, names clash, a system is missing on a collection, the
            metric was not computed, or queries, corpus size, split or protocol differ.
    """
    if not results:
        raise DataError("nothing to compare: no result was given; `llara evaluate --results` writes them")
    if metric.startswith("hole_at_"):
        raise DataError(
            f"{metric} is the share of unjudged results, not a score; compare by ndcg_at_10 or so"
        )
    for collection, systems in results.items():
        _names(collection, [one.name for one in systems])
    names = _same_systems(results, baseline)
    aligned, notes = {}, []
    for collection, systems in results.items():
        by_name = {one.name: one for one in systems}
        first = by_name[names[0]]
        ordered = [_aligned(collection, first, by_name[name], metric) for name in names]
        aligned[collection] = ordered
        notes += _on_trust(collection, ordered)
    return aligned, names, notes


def check_collection(name: str, collection: Collection, first: SystemResult) -> None:
    """Refuse texts of another collection than the results were made on.

    Raises:
        DataError: the split is missing, or lacks a query of the results; names the ids.
    """
    known = set(collection.split_queries(first.split)[0])
    missing = [query for query in first.query_ids if query not in known]
    if missing:
        raise DataError(
            f"the results on {name} have queries that split {first.split!r} of the collection "
            f"{collection.name!r} lacks: {_list(missing)}; give the data that the results were made on"
        )


def _names(collection: str, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(
            f"{collection}: two results share the name {', '.join(map(repr, twice))}; give each a name of "
            "its own (on the command line: NAME=FOLDER)"
        )
    if len(names) < 2:
        raise DataError(f"{collection}: expected at least two systems, got {', '.join(names) or 'none'}")


def _same_systems(results: Mapping[str, Sequence[SystemResult]], baseline: str | None) -> list[str]:
    """Names in the order of the first collection, the baseline first."""
    first_collection, first = next(iter(results.items()))
    names = [one.name for one in first]
    for collection, systems in results.items():
        differing = set(names) ^ {one.name for one in systems}
        if differing:
            raise DataError(
                f"{first_collection} and {collection} were not judged with the same systems: "
                f"{', '.join(sorted(differing))} is missing on one of them; a table with gaps has no honest "
                "average, so judge it there too, or leave it out"
            )
    chosen = names[0] if baseline is None else baseline
    if chosen not in names:
        raise DataError(f"no system is called {chosen!r}; the results have {', '.join(names)}")
    return [chosen, *(name for name in names if name != chosen)]


def _aligned(collection: str, first: SystemResult, other: SystemResult, metric: str) -> SystemResult:
    """The other result with its queries in the order of the first's, once they are known to be the same."""
    pair = f"{collection}: {first.name!r} and {other.name!r}"
    if metric not in other.per_query:
        have = ", ".join(other.per_query)
        raise DataError(
            f"{collection}: {other.name!r} was not scored by {metric} (it has {have}); choose one of those, "
            "or judge it again with that metric"
        )
    if first.split != other.split:
        raise DataError(f"{pair} were judged on different splits: {first.split!r} and {other.split!r}")
    _same_queries(pair, first, other)
    if first.documents != other.documents:
        raise DataError(
            f"{pair} searched different corpora: {first.documents:,} and {other.documents:,} documents; a "
            "smaller corpus is easier, so judge both on the same one"
        )
    _same_protocol(pair, protocol_of(first), protocol_of(other), metric)
    if list(first.query_ids) == list(other.query_ids):
        return other
    place_of = {query: place for place, query in enumerate(other.query_ids)}
    places = [place_of[query] for query in first.query_ids]
    return replace(
        other,
        query_ids=list(first.query_ids),
        per_query={name: values[places] for name, values in other.per_query.items()},
        found=[other.found[place] for place in places],
        scores=[other.scores[place] for place in places],
    )


def _same_queries(pair: str, first: SystemResult, other: SystemResult) -> None:
    ours, theirs = set(first.query_ids), set(other.query_ids)
    if len(ours) < len(first.query_ids) or len(theirs) < len(other.query_ids):
        raise DataError(f"{pair}: a query id stands twice in one of them; judge again")
    if ours != theirs:
        only = [query for query in first.query_ids if query not in theirs]
        others = [query for query in other.query_ids if query not in ours]
        raise DataError(
            f"{pair} answer different queries ({len(ours):,} and {len(theirs):,}): only {first.name!r} has "
            f"{_list(only)}; only {other.name!r} has {_list(others)}; judge both on the same split of the "
            "same data",
            rule="same_queries",
        )


def _on_trust(collection: str, systems: Sequence[SystemResult]) -> list[str]:
    """A remark for each system that did not record what others of the collection did."""
    recorded = dict.fromkeys(key for one in systems for key in protocol_of(one))
    if not recorded:
        return [f"{collection}: no result records its protocol; that it was the same is taken on trust"]
    notes = []
    for one in systems:
        missing = [key.replace("_", " ") for key in recorded if key not in protocol_of(one)]
        if missing:
            notes.append(
                f"{collection}: the result of {one.name} does not record its {', '.join(missing)}; that it "
                "is the same as the others' is taken on trust"
            )
    return notes


def _same_protocol(pair: str, ours: Mapping[str, Any], theirs: Mapping[str, Any], metric: str) -> None:
    # What only one of them recorded cannot be compared; the reader is told.
    differing = [key for key in ours if key in theirs and ours[key] != theirs[key]]
    cut = int(metric.rpartition("_at_")[2]) if metric.rpartition("_at_")[2].isdigit() else None
    if cut is not None and min(ours.get("depth", 0), theirs.get("depth", 0)) >= cut:
        differing = [key for key in differing if key != "depth"]  # both reach as deep as the metric reads
    if differing:
        told = "; ".join(f"{key} is {ours.get(key)!r} and {theirs.get(key)!r}" for key in differing)
        raise DataError(f"{pair} were judged under different protocols: {told}; judge both alike")


def _list(ids: Sequence[str]) -> str:
    if not ids:
        return "none"
    more = f" and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else ""
    return ", ".join(map(repr, ids[:_NAMED])) + more
