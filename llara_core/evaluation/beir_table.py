"""The table of a list of sets: scores with intervals, their average, and published scores beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.evaluation.beir_runs import Outcome
from llara_core.evaluation.beir_sets import Anchor, anchors, beir_sets, find_set
from llara_core.evaluation.results import SystemResult
from llara_core.evaluation.significance import bootstrap_interval
from llara_core.evaluation.subsets import leak_free_cell

MAIN, RECALL, RECIPROCAL = "ndcg_at_10", "recall_at_100", "mrr_at_10"
_ROUNDS = 2_000  # resamples of an interval
_LEAK_FREE = (
    "no_near_duplicate, unseen_documents: nDCG@10 on the queries that the training split does not give away "
    "(how many); n/a: those are all or none"
)


def table_record(system: str, outcomes: Sequence[Outcome], *, seed: int = 0) -> dict[str, Any]:
    """Return the table as plain values.

    Args:
        system: name of the system.
        outcomes: of ``judge_places``; CQADupStack's forums become one row, the plain mean of their means.
        seed: of the bootstrap.

    Returns:
        JSON-able: ``system``; ``rows``, each with ``set``, ``title``, ``split``, ``queries``, ``documents``,
        ``scores`` (metric to mean), ``low`` and ``high`` (95% interval of nDCG@10 over queries), ``anchors``
        (name to published nDCG@10; empty unless the whole public set was judged), ``error``, ``seconds``,
        ``reused``, and ``leak_free`` (see ``leak_free_means``) where a training split gives queries away,
        in no row of several forums; ``average`` over the rows without an error, with an anchor's own
        average where it has a number for each of them; ``anchors`` with title and source; ``failed``, the
        number of rows with an error.
    """
    published = anchors()
    rows = [_row(group, published, seed) for group in _grouped(outcomes)]
    return {
        "system": system,
        "rows": rows,
        "average": _average([row for row in rows if not row["error"]], published),
        "anchors": [{"name": one.name, "title": one.title, "source": one.source} for one in published],
        "failed": sum(bool(row["error"]) for row in rows),
    }


def render_table(record: Mapping[str, Any]) -> str:
    """Return the table of ``table_record`` as text for a terminal, with the sources below it."""
    shown = [one for one in record["anchors"] if any(one["name"] in row["anchors"] for row in record["rows"])]
    subsets = list(dict.fromkeys(name for row in record["rows"] for name in row.get("leak_free", {})))
    head = ["set", "queries", "documents", "nDCG@10", "95% interval", *subsets, "recall@100"]
    lines = [head + [one["title"] for one in shown]]
    for row in record["rows"]:
        lines.append(_cells(row, subsets, shown))
    if len(record["rows"]) > 1 and record["average"]["sets"]:
        lines.append(_average_cells(record["average"], subsets, shown))
    text = _aligned(lines)
    failures = [f"{row['set']}: {row['error']}" for row in record["rows"] if row["error"]]
    notes = [f"failed: {failure}" for failure in failures]
    if subsets:
        notes.append(_LEAK_FREE)
    notes += _reciprocal_notes(record)
    if shown:
        notes.append("published scores, nDCG@10:")
        notes += [f"  {one['title']}: {one['source']}" for one in shown]
    return "\n".join([text, *notes])


def _grouped(outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    """The outcomes of each row: one, or those of a group, at the place of its first."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.place.group or f" {outcome.place.name}", []).append(outcome)
    return list(groups.values())


def _row(group: Sequence[Outcome], published: Sequence[Anchor], seed: int) -> dict[str, Any]:
    first = group[0]
    name = first.place.group or first.place.name
    known = find_set(name)
    failed = [one for one in group if one.result is None]
    error = first.error
    if failed and len(group) > 1:
        error = f"{len(failed)} of {len(group)} parts failed; {failed[0].place.name}: {failed[0].error}"
    results = [one.result for one in group if one.result is not None] if not error else []
    low, high = _interval(results, seed)
    row: dict[str, Any] = {
        "set": name,
        "title": known.title if known is not None else name,
        "split": first.place.split,
        "parts": len(group),
        "queries": sum(len(one.query_ids) for one in results),
        "documents": sum(one.documents for one in results),
        "scores": _mean_of([one.means for one in results]),
        "low": low,
        "high": high,
        "anchors": {},
        "error": error,
        "seconds": sum(one.seconds for one in group),
        "reused": all(one.reused for one in group),
    }
    if results and len(group) == 1 and first.leak_free:
        row["leak_free"] = {name: dict(means) for name, means in first.leak_free.items()}
    whole = bool(results) and all(one.public for one in group)
    expected = len(known.forums) if known is not None else 0
    if known is not None and whole and (not expected or len(group) == expected):
        row["set"] = known.name
        scores = {anchor.name: anchor.score(known.name) for anchor in published}
        row["anchors"] = {anchor: score for anchor, score in scores.items() if score is not None}
    return row


def _mean_of(means: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each metric that all have."""
    common = [metric for metric in means[0] if all(metric in one for one in means)] if means else []
    return {metric: float(np.mean([one[metric] for one in means])) for metric in common}


def _interval(results: Sequence[SystemResult], seed: int) -> tuple[float | None, float | None]:
    """95% interval of nDCG@10: of the mean over queries, or of the mean of the parts' means."""
    scores = [one.per_query[MAIN] for one in results if MAIN in one.per_query]
    if not scores:
        return None, None
    if len(scores) == 1:
        return bootstrap_interval(scores[0], rounds=_ROUNDS, seed=seed)
    rng = np.random.default_rng(seed)
    # Queries are drawn within their part, since each part counts alike whatever its size.
    resampled = np.mean([_resampled(part, rng) for part in scores], axis=0)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(low), float(high)


def _resampled(scores: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    draws = [scores[rng.integers(0, len(scores), len(scores))].mean() for _ in range(_ROUNDS)]
    return np.array(draws, np.float64)


def _average(rows: Sequence[Mapping[str, Any]], published: Sequence[Anchor]) -> dict[str, Any]:
    scores = _mean_of([row["scores"] for row in rows])
    compared = {
        anchor.name: float(np.mean([row["anchors"][anchor.name] for row in rows]))
        for anchor in published
        if rows and all(anchor.name in row["anchors"] for row in rows)
    }
    return {"sets": len(rows), "scores": scores, "anchors": compared}


def _cells(row: Mapping[str, Any], subsets: Sequence[str], shown: Sequence[Mapping[str, str]]) -> list[str]:
    if row["error"]:
        return [row["set"], "", "", "failed", "", *("" for _ in subsets), "", *("" for _ in shown)]
    leak_free = row.get("leak_free", {})
    scores = row["scores"]
    interval = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
    return [
        row["set"],
        f"{row['queries']:,}",
        f"{row['documents']:,}",
        _number(scores.get(MAIN), 4),
        interval,
        *(
            leak_free_cell(leak_free[name], MAIN, row["queries"]) if name in leak_free else "-"
            for name in subsets
        ),
        _number(scores.get(RECALL), 4),
        *(_number(row["anchors"].get(one["name"]), 3) for one in shown),
    ]


def _average_cells(
    average: Mapping[str, Any], subsets: Sequence[str], shown: Sequence[Mapping[str, str]]
) -> list[str]:
    scores = average["scores"]
    anchored = [_number(average["anchors"].get(one["name"]), 3) for one in shown]
    count = f"average of {average['sets']}"
    blank = ["" for _ in subsets]  # a mean over other queries of each set would compare with nothing
    main, recall = _number(scores.get(MAIN), 4), _number(scores.get(RECALL), 4)
    return [count, "", "", main, "", *blank, recall, *anchored]


def _reciprocal_notes(record: Mapping[str, Any]) -> list[str]:
    """MS MARCO is known by its MRR@10: say it where somebody published one."""
    known = {name for name in beir_sets() for one in anchors() if one.score(name, RECIPROCAL) is not None}
    notes = []
    for row in record["rows"]:
        if row["set"] in known and not row["error"] and RECIPROCAL in row["scores"]:
            others = [
                f"{one.title} {one.score(row['set'], RECIPROCAL):.3f}"
                for one in anchors()
                if one.score(row["set"], RECIPROCAL) is not None
            ]
            ours = f"{row['set']} MRR@10: {row['scores'][RECIPROCAL]:.4f}"
            notes.append(f"{ours} (published: {', '.join(others)})" if row["anchors"] else ours)
    return notes


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    text = []
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)
