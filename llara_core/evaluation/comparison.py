"""All that one run learned about its systems, gathered in one JSON-able record for terminal and report.

The record is plain data on purpose: the report page, the MLflow artifacts and a later comparison of
runs read ``comparison.json`` without knowing a class of ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from llara_core.data.collection import Collection
from llara_core.errors import DataError
from llara_core.evaluation.contrasts import BASELINE, WITHOUT_ADAPTATION, contrast
from llara_core.evaluation.examples import best_and_worst
from llara_core.evaluation.metrics import METRICS
from llara_core.evaluation.results import SystemResult
from llara_core.files import new_file

__all__ = [
    "BASELINE", "SCHEMA_VERSION", "WITHOUT_ADAPTATION", "Comparison", "Row", "compare", "length_histogram",
]  # fmt: skip

SCHEMA_VERSION = 1
_BINS = 30


class Row(TypedDict):
    """One line of the final table: a system, a metric, and what it gained."""

    system: str
    metric: str
    value: float
    versus_bm25: float | None
    p_bm25: float | None
    versus_without_adaptation: float | None
    p_without_adaptation: float | None


@dataclass(frozen=True)
class Comparison:
    """Systems judged on the same queries, with subsets, significance, histories and examples.

    ``to_dict`` gives exactly these fields; every number is a plain float or int, absent is None::

        {
          "schema": 1,
          "collection": {"name": str, "split": str, "documents": int, "queries": int, "content_hash": str},
          "metrics": ["ndcg_at_10", "mrr_at_10", "recall_at_100", "map_at_100"],
          "query_ids": [str] * Q,
          "systems": [                       # in the order judged: bm25, base, adapted, finetuned, ...
            {"name": str,                    # "bm25" | "base" | "adapted" | "finetuned"
                                             #   | "finetuned_without_adaptation"
             "per_query": {metric: [float] * Q}}
          ],
          "subsets": [                       # the first is always {"name": "all"}: the whole split
            {"name": str,                    # "all" | "no_near_duplicate" | "unseen_documents"
             "description": str,             # one sentence for the reader
             "queries": int,                 # may be 0: then "systems" is {}
             "systems": {system: {metric: {
                "mean": float,
                "interval": [low, high],     # 95% bootstrap interval of the mean
                "versus_bm25": {"difference": float, "p_value": float} | None,
                "versus_without_adaptation": {"difference": float, "p_value": float} | None,
             }}}}
          ],
          "histories": {stage: [{"step": int, "loss": float, ...other series}]},
                                             # stage: "adapt", "finetune", "finetune_without_adaptation"
          "length_histograms": [
            {"name": str, "unit": str,       # "passages", "queries"; "words" or "tokens"
             "edges": [float] * (B + 1), "counts": [int] * B,
             "limit": int | None}            # the length at which texts are cut, where known
          ],
          "best_queries": [example] * <=10,  # of the system named in "examples_of"
          "worst_queries": [example] * <=10, # worst first; no query stands in both lists
          "examples_of": str,                # normally "finetuned"
          "notes": [str]                     # remarks to print, e.g. what mining fell back to
        }

        example = {
          "query_id": str, "text": str,
          "ndcg_at_10": float, "bm25_ndcg_at_10": float | None,
          "first_relevant_rank": int | None, # 1-based, None when not among the results kept (top 10)
          "found": [{"rank": int, "id": str, "title": str, "snippet": str, "score": float,
                     "grade": int | None}] * <=3,   # grade None: not judged
          "relevant": [{"id": str, "title": str, "snippet": str, "grade": int,
                        "rank": int | None}] * <=3, # best grade first
        }
    """

    collection: Mapping[str, Any]
    query_ids: Sequence[str]
    systems: Sequence[Mapping[str, Any]]
    subsets: Sequence[Mapping[str, Any]]
    histories: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    length_histograms: Sequence[Mapping[str, Any]] = ()
    best_queries: Sequence[Mapping[str, Any]] = ()
    worst_queries: Sequence[Mapping[str, Any]] = ()
    examples_of: str = ""
    notes: Sequence[str] = ()
    metrics: Sequence[str] = METRICS

    def to_dict(self) -> dict[str, Any]:
        """The record described above."""
        return {"schema": SCHEMA_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Comparison:
        """Rebuild from ``to_dict``'s record.

        Raises:
            DataError: the record has another schema version, or lacks a field.
        """
        if record.get("schema") != SCHEMA_VERSION:
            raise DataError(
                f"comparison has schema {record.get('schema')!r}, this version reads {SCHEMA_VERSION}; "
                "evaluate again"
            )
        names = [one.name for one in fields(cls)]
        missing = [name for name in names if name not in record]
        if missing:
            raise DataError(f"comparison lacks {', '.join(missing)}; evaluate again")
        return cls(**{name: record[name] for name in names})

    def save(self, path: Path) -> Path:
        """Write the record as JSON; returns the path.

        Raises:
            DataError: the file cannot be written.
        """
        with new_file(path) as partial:
            partial.write_text(json.dumps(self.to_dict(), allow_nan=False), encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: Path) -> Comparison:
        """Read a file written by ``save``.

        Raises:
            DataError: the file is missing, not JSON, or not such a record.
        """
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"not a saved comparison ({error})", file=path) from None
        return cls.from_dict(record)

    def table(self, subset: str = "all") -> list[Row]:
        """Rows of the terminal's table, system by system; empty for a subset without queries.

        Raises:
            DataError: there is no such subset.
        """
        chosen = next((one for one in self.subsets if one["name"] == subset), None)
        if chosen is None:
            known = ", ".join(one["name"] for one in self.subsets)
            raise DataError(f"comparison has no subset {subset!r} (it has: {known})")
        return [
            _row(system, metric, values)
            for system, by_metric in chosen["systems"].items()
            for metric, values in by_metric.items()
        ]

    def metrics_of(self, system: str, subset: str = "all") -> dict[str, float]:
        """Mean of each metric of a system, as the tracker and the registry want them.

        Raises:
            DataError: there is no such subset, or no such system in it.
        """
        found = {row["metric"]: row["value"] for row in self.table(subset) if row["system"] == system}
        if not found:
            raise DataError(f"comparison has no system {system!r} on subset {subset!r}")
        return found


def compare(
    collection: Collection,
    results: Sequence[SystemResult],
    *,
    subsets: Mapping[str, NDArray[np.bool_]] | None = None,
    histories: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
    length_histograms: Sequence[Mapping[str, Any]] | None = None,
    notes: Sequence[str] = (),
    seed: int = 0,
) -> Comparison:
    """Gather the results of all systems on one split.

    Args:
        collection: what was searched; gives texts and titles of the examples.
        results: the systems in the order to show, all on the same queries.
        subsets: name to marks [Q], as ``leak_free_subsets`` gives them.
        histories: stage to logged steps.
        length_histograms: of ``length_histogram``; None: words of passages and of the split's queries.
        notes: remarks to show.
        seed: of the randomisation tests and the bootstrap.

    Raises:
        DataError: there is no result, two have one name, or they judge different queries.
    """
    first = _same_queries(results)
    texts = dict(
        zip(collection.queries["_id"].to_pylist(), collection.queries["text"].to_pylist(), strict=True)
    )
    marks = {"all": np.ones(len(first.query_ids), np.bool_), **(subsets or {})}
    shown = next((one for one in results if one.name == "finetuned"), results[-1])
    baseline = next((one for one in results if one.name == BASELINE and one is not shown), None)
    best, worst = best_and_worst(collection, shown, baseline)
    if length_histograms is None:
        length_histograms = [
            length_histogram("passages", [len(text.split()) for text in collection.passages]),
            length_histogram("queries", [len(texts[query].split()) for query in first.query_ids]),
        ]
    return Comparison(
        collection={
            "name": collection.name,
            "split": first.split,
            "documents": collection.corpus.num_rows,
            "queries": len(first.query_ids),
            "content_hash": collection.content_hash,
        },
        query_ids=list(first.query_ids),
        systems=[
            {"name": one.name, "per_query": {metric: one.per_query[metric].tolist() for metric in METRICS}}
            for one in results
        ],
        subsets=[contrast(name, chosen, results, seed) for name, chosen in marks.items()],
        histories={stage: [dict(step) for step in steps] for stage, steps in (histories or {}).items()},
        length_histograms=list(length_histograms),
        best_queries=best,
        worst_queries=worst,
        examples_of=shown.name,
        notes=list(notes),
        metrics=list(METRICS),
    )


def length_histogram(
    name: str, lengths: Sequence[int], unit: str = "words", limit: int | None = None
) -> dict[str, Any]:
    """Return a histogram of text lengths in at most 30 bins of whole units.

    Args:
        name: what is counted, e.g. ``passages``.
        lengths: one per text, ≥ 0.
        unit: ``words`` or ``tokens``.
        limit: the length at which texts are cut, where known.
    """
    greatest = max(lengths, default=0)
    width = greatest // _BINS + 1  # whole units per bin: no bin is empty for want of an integer
    edges = np.arange(0, greatest + width + 1, width)
    counts, _ = np.histogram(np.asarray(lengths, np.int64), edges)
    return {
        "name": name,
        "unit": unit,
        "edges": edges.astype(float).tolist(),
        "counts": counts.tolist(),
        "limit": limit,
    }


def _same_queries(results: Sequence[SystemResult]) -> SystemResult:
    """The first result, once all are known to judge the same queries under different names."""
    if not results:
        raise DataError("nothing to compare: no system was evaluated")
    names = [one.name for one in results]
    if len(set(names)) < len(names):
        raise DataError(f"two systems share a name: {', '.join(names)}")
    first = results[0]
    for other in results[1:]:
        if list(other.query_ids) != list(first.query_ids) or other.split != first.split:
            raise DataError(
                f"{other.name!r} was judged on other queries than {first.name!r} "
                f"({len(other.query_ids)} of {other.split!r}, {len(first.query_ids)} of {first.split!r}); "
                "evaluate both on the same split"
            )
    return first


def _row(system: str, metric: str, values: Mapping[str, Any]) -> Row:
    bm25, without = values["versus_bm25"] or {}, values["versus_without_adaptation"] or {}
    return {
        "system": system,
        "metric": metric,
        "value": values["mean"],
        "versus_bm25": bm25.get("difference"),
        "p_bm25": bm25.get("p_value"),
        "versus_without_adaptation": without.get("difference"),
        "p_without_adaptation": without.get("p_value"),
    }
