"""Two or more systems side by side, on one collection or many: one JSON-able record.

The page, the figures, the terminal's table and whoever reads the JSON file use this record alone. Every
number is a plain float or int; what is unknown is None. Schema 1::

    {
      "kind": "side_by_side", "schema": 1,
      "metric": str,                          # e.g. "ndcg_at_10": what everything below compares
      "confidence": 0.95, "seed": int,
      "baseline": str,                        # the system that the others are compared with
      "systems": [str],                       # the baseline first
      "collections": [
        {"name": str, "split": str, "documents": int, "queries": Q,
         "protocol": {...},                   # of the question, as recorded; {} where none was
         "query_ids": [str] * Q,
         "query_texts": [str] * Q | None,     # None without the collection
         "systems": {system: {
            "mean": float, "interval": [low, high],    # bootstrap interval of the mean over queries
            "hole_at_10": float | None,       # share of its first ten that no query's judgements know
            "means": {metric: float},         # every metric that was saved
            "model": str | None,              # as recorded in its protocol
            "per_query": [float] * Q}},
         "pairs": [pair],                     # one for each system but the baseline
         "leak_free": [{"name": str, "queries": int,   # [] without the collection, or where nothing leaks
            "systems": {system: float | None}}],       # mean on the subset
         "by_length": [group], "by_type": [group],     # [] without the collection
         "moved": [{"system": str, "baseline": str, "up": [moved] * <=5, "down": [moved] * <=5}]}
      ],
      "average": {                            # None for a single collection
         "collections": int,                 # CQADupStack's forums count as one
         "systems": {system: {"mean": float, "interval": [low, high]}},
         "pairs": [{"system", "baseline", "difference", "interval", "p_value",
                    "p_holm",                 # over the pairs
                    "higher": int, "lower": int, "equal": int}]},    # on how many collections
      "notes": [str]                          # what the reader must know to judge the numbers
    }

    pair = {
      "system": str, "baseline": str,
      "difference": float, "interval": [low, high],    # paired bootstrap interval of the mean difference
      "p_value": float,                       # paired randomisation test, two-sided
      "p_holm": float,                        # the same after Holm's correction over collections and pairs
      "effect_size": float | None,            # d_z: mean difference over its standard deviation
      "wins": int, "losses": int, "ties": int,         # queries better, worse, equal
      "queries_needed": int | None            # to see such a difference at 5% with 80% power
    }
    group = {
      "name": str, "queries": int,
      "systems": {system: {"mean": float, "interval": [low, high]}},
      "pairs": [{"system", "baseline", "difference", "interval"}]
    }
    moved = {
      "query_id": str, "text": str | None, "scores": {system: float}, "difference": float,
      "found": {system: [{"rank", "id", "title", "snippet", "score", "grade": int | None}] * <=3},
      "relevant": [{"id", "title", "snippet", "grade", "ranks": {system: int | None}}] * <=3,
      "first_relevant": {system: int | None}  # rank within the first ten; {} without the collection
    }
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.data.collection import Collection
from llara_core.errors import DataError
from llara_core.evaluation.examples import Reader
from llara_core.evaluation.metrics import evaluate_run
from llara_core.evaluation.results import SystemResult
from llara_core.evaluation.side_by_side_average import average_of
from llara_core.evaluation.side_by_side_checks import check_collection, comparable, protocol_of
from llara_core.evaluation.side_by_side_queries import (
    SAME,
    kind_groups,
    leak_free_scores,
    length_groups,
    moved_most,
    word_count,
)
from llara_core.evaluation.significance import (
    bootstrap_interval,
    effect_size,
    holm,
    paired_bootstrap,
    paired_randomisation,
    queries_needed,
)

KIND, SCHEMA = "side_by_side", 1
CONFIDENCE = 0.95
HOLE = "hole_at_10"
UNFAIR = 0.1  # difference of hole@10 from which the pool of judgements favours one system

Groups = Sequence[tuple[str, NDArray[np.bool_]]]


def compare_systems(
    results: Mapping[str, Sequence[SystemResult]],
    collections: Mapping[str, Collection] | None = None,
    *,
    metric: str = "ndcg_at_10",
    baseline: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare systems query by query and return the record that this module describes.

    Args:
        results: collection name to the systems judged on it; every system on every collection.
        collections: texts and judgements by the same names, where at hand: without them the record has
            ids instead of texts, and no groups of queries.
        metric: what to compare by; every result must have been scored by it.
        baseline: the system that the others are compared with; None: the first of the first collection.
        seed: of bootstrap and randomisation tests.

    Raises:
        DataError: the results do not answer the same queries on the same corpus under the same protocol
            (names what differs), names clash, or the metric was not computed.

    Source: issue 4, point 8. Statistics as in ``significance``.
    """
    aligned, names, notes = comparable(results, metric, baseline)
    collections = collections or {}
    unknown = [name for name in collections if name not in aligned]
    if unknown:
        raise DataError(
            f"no result is on the collection {', '.join(map(repr, unknown))}; the results are on "
            f"{', '.join(aligned)}"
        )
    entries = [
        _collection(name, systems, collections.get(name), metric, seed) for name, systems in aligned.items()
    ]
    _adjust(entries)
    for entry in entries:
        notes.extend(_unfair(entry))
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "metric": metric,
        "confidence": CONFIDENCE,
        "seed": seed,
        "baseline": names[0],
        "systems": names,
        "collections": entries,
        "average": average_of(aligned, metric, seed, CONFIDENCE),
        "notes": notes,
    }


def check_record(record: Mapping[str, Any]) -> None:
    """Refuse what ``compare_systems`` did not make.

    Raises:
        DataError: another kind of record, or of another schema.
    """
    if record.get("kind") != KIND or record.get("schema") != SCHEMA:
        raise DataError(
            f"not a comparison that this version can show: got kind {record.get('kind')!r}, schema "
            f"{record.get('schema')!r}; expected {KIND!r}, schema {SCHEMA}; make it again (`llara compare`)"
        )


def _collection(
    name: str, systems: Sequence[SystemResult], collection: Collection | None, metric: str, seed: int
) -> dict[str, Any]:
    first = systems[0]
    reader, texts = None, None
    by_length: Groups = ()
    by_type: Groups = ()
    if collection is not None:
        check_collection(name, collection, first)
        reader = Reader(collection, first.split)
        texts = [reader.text(query) for query in first.query_ids]
        by_length, by_type = length_groups([word_count(text) for text in texts]), kind_groups(texts)
    return {
        "name": name,
        "split": first.split,
        "documents": first.documents,
        "queries": len(first.query_ids),
        "protocol": next(filter(None, map(protocol_of, systems)), {}),
        "query_ids": list(first.query_ids),
        "query_texts": texts,
        "systems": {one.name: _system(one, collection, metric, seed) for one in systems},
        "pairs": [_pair(one, first, metric, seed) for one in systems[1:]],
        "leak_free": leak_free_scores(collection, systems, metric),
        "by_length": [_group(group, marks, systems, metric, seed) for group, marks in by_length],
        "by_type": [_group(group, marks, systems, metric, seed) for group, marks in by_type],
        "moved": [
            {"system": one.name, "baseline": first.name, **moved_most(one, first, metric, reader)}
            for one in systems[1:]
        ],
    }


def _system(result: SystemResult, collection: Collection | None, metric: str, seed: int) -> dict[str, Any]:
    scores = result.per_query[metric]
    return {
        **_mean(scores, seed),
        HOLE: _hole(result, collection),
        "means": {name: float(values.mean()) for name, values in result.per_query.items()},
        "model": result.protocol.get("model"),
        "per_query": scores.tolist(),
    }


def _mean(scores: NDArray[np.float64], seed: int) -> dict[str, Any]:
    interval = bootstrap_interval(scores, confidence=CONFIDENCE, seed=seed)
    return {"mean": float(scores.mean()), "interval": list(interval)}


def _hole(result: SystemResult, collection: Collection | None) -> float | None:
    """hole@10 as saved with the result, or else counted now."""
    if HOLE in result.per_query:
        return float(result.per_query[HOLE].mean())
    if collection is None:
        return None
    run = {
        query: dict(zip(found, scores, strict=True))
        for query, found, scores in zip(result.query_ids, result.found, result.scores, strict=True)
    }
    judged = collection.judgements(result.split)  # also of queries that were not asked: they judge passages
    holes = evaluate_run(judged, run, [HOLE])[HOLE]
    return float(holes[[query in run for query in judged]].mean())


def _pair(system: SystemResult, baseline: SystemResult, metric: str, seed: int) -> dict[str, Any]:
    ours, theirs = system.per_query[metric], baseline.per_query[metric]
    differences = ours - theirs
    gain = float(differences.mean())
    effect = effect_size(ours, theirs)  # infinite where every query moved alike
    enough = len(differences) > 1 and abs(gain) > SAME  # one query has no spread, no gain needs no query
    return {
        **_difference(system, baseline, ours, theirs, seed),
        "p_value": paired_randomisation(ours, theirs, seed=seed),
        "p_holm": None,
        "effect_size": effect if math.isfinite(effect) else None,
        "wins": int((differences > SAME).sum()),
        "losses": int((differences < -SAME).sum()),
        "ties": int((np.abs(differences) <= SAME).sum()),
        "queries_needed": queries_needed(ours, theirs, gain) if enough else None,
    }


def _difference(
    system: SystemResult,
    baseline: SystemResult,
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    seed: int,
) -> dict[str, Any]:
    return {
        "system": system.name,
        "baseline": baseline.name,
        "difference": float((ours - theirs).mean()),
        "interval": list(paired_bootstrap(ours, theirs, confidence=CONFIDENCE, seed=seed)),
    }


def _group(
    name: str, marks: NDArray[np.bool_], systems: Sequence[SystemResult], metric: str, seed: int
) -> dict[str, Any]:
    chosen = [one.per_query[metric][marks] for one in systems]
    return {
        "name": name,
        "queries": int(marks.sum()),
        "systems": {one.name: _mean(scores, seed) for one, scores in zip(systems, chosen, strict=True)},
        "pairs": [
            _difference(one, systems[0], scores, chosen[0], seed)
            for one, scores in zip(systems[1:], chosen[1:], strict=True)
        ],
    }


def _adjust(entries: Sequence[dict[str, Any]]) -> None:
    """Fill ``p_holm``: one family of tests, all pairs on all collections."""
    tests = {(entry["name"], pair["system"]): pair for entry in entries for pair in entry["pairs"]}
    for key, adjusted in holm({key: pair["p_value"] for key, pair in tests.items()}).items():
        tests[key]["p_holm"] = adjusted


def _unfair(entry: Mapping[str, Any]) -> list[str]:
    """A remark where one system finds far more unjudged passages than another."""
    holes = {name: one[HOLE] for name, one in entry["systems"].items() if one[HOLE] is not None}
    if len(holes) < 2:
        return []
    most, least = max(holes, key=lambda name: holes[name]), min(holes, key=lambda name: holes[name])
    if holes[most] - holes[least] < UNFAIR:
        return []
    return [
        f"{entry['name']}: of the first ten passages that {most} finds, {holes[most]:.0%} were never judged "
        f"for any query, of {least}'s {holes[least]:.0%}. Unjudged passages count as wrong, so the score of "
        f"{most} is more of a lower bound than that of {least}."
    ]
