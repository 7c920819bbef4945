"""The words and tables of a side-by-side comparison, for the page and the terminal alike.

A system is called better only where its difference is significant after Holm's correction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from llara_core.evaluation.metrics import METRICS
from llara_core.evaluation.report_charts import metric_name, subset_name
from llara_core.evaluation.report_text import (
    MISSING,
    NO_BREAK,
    SIGNIFICANT,
    integer,
    number,
    p_value,
    sentence,
    signed,
)
from llara_core.evaluation.subsets import leak_free_cell

AVERAGE = "average"
Table = dict[str, Any]  # {"head": [str], "rows": [[str]]}, the first column naming the row


def title(record: Mapping[str, Any]) -> str:
    """What the page is about: ``tuned against bm25 on scifact``."""
    systems, collections = record["systems"], record["collections"]
    what = f"{systems[1]} against {systems[0]}" if len(systems) == 2 else f"{len(systems)} systems"
    where = collections[0]["name"] if len(collections) == 1 else f"{len(collections)} collections"
    return f"{what} on {where}"


def claims(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """One sentence per pair: of the averages first, then of every collection.

    Returns:
        ``text`` and ``tone``: ``good`` or ``bad`` where the difference is significant after Holm's
        correction, else ``even``.
    """
    metric = metric_name(record["metric"])
    tests = sum(len(entry["pairs"]) for entry in record["collections"])
    told = [
        _claim(pair, f"on {entry['name']}", metric, tests, entry["queries"])
        for entry in record["collections"]
        for pair in entry["pairs"]
    ]
    average = record["average"]
    if not average:
        return told
    several = average["collections"] > 1  # not where all are forums of one set
    where = "on the average" + (f" of {average['collections']} collections" if several else "")
    return [_claim(pair, where, metric, len(average["pairs"]), 0) for pair in average["pairs"]] + told


def tone(pair: Mapping[str, Any]) -> str:
    """``good``, ``bad`` or, where the difference may be chance, ``even``."""
    if pair["p_holm"] >= SIGNIFICANT:
        return "even"
    return "good" if pair["difference"] > 0 else "bad"


def _claim(pair: Mapping[str, Any], where: str, metric: str, tests: int, queries: int) -> dict[str, str]:
    system, baseline, chosen = pair["system"], pair["baseline"], tone(pair)
    if "ties" in pair and not pair["wins"] and not pair["losses"]:
        return {"text": f"{system} and {baseline} score the same on every query {where}.", "tone": chosen}
    holm = f"{p_value(pair['p_holm'])}{' after Holm' if tests > 1 else ''}"
    numbers = f"{signed(pair['difference'])} {metric} {interval(pair['interval'])}, {holm}"
    if chosen == "even":
        text = f"No difference shown between {system} and {baseline} {where}: {numbers}"
        return {"text": f"{text}{_doubt(pair, tests, queries)}.", "tone": chosen}
    verdict = "better" if chosen == "good" else "worse"
    return {"text": f"{system} is {verdict} than {baseline} {where}: {numbers}.", "tone": chosen}


def _doubt(pair: Mapping[str, Any], tests: int, queries: int) -> str:
    """Why nothing was shown: too many comparisons, or too few queries."""
    if pair["p_value"] < SIGNIFICANT:
        return f" ({p_value(pair['p_value'])} before it, but {tests} comparisons are made)"
    needed = pair.get("queries_needed")
    if needed is None or needed <= queries:
        return ""
    return f"; to see such a difference takes about {integer(needed)} queries, there are {integer(queries)}"


def interval(bounds: Sequence[float]) -> str:
    """``[0.012, 0.083]``, with a true minus sign, never broken into two lines."""
    return f"[{number(bounds[0])},{NO_BREAK}{number(bounds[1])}]".replace("-", "\N{MINUS SIGN}")


def means_table(record: Mapping[str, Any]) -> Table:
    """Every system's mean and interval on every collection, with its share of unjudged passages."""
    holes = any(
        one["hole_at_10"] is not None for entry in record["collections"] for one in entry["systems"].values()
    )
    metrics = _shared_metrics(record)
    head = ["Collection", "System", metric_name(record["metric"]), "95% interval"]
    head += [metric_name(metric) for metric in metrics] + (["hole@10"] if holes else [])
    rows = [
        [entry["name"], name, number(one["mean"]), interval(one["interval"])]
        + [number(one["means"][metric]) for metric in metrics]
        + ([number(one["hole_at_10"])] if holes else [])
        for entry in record["collections"]
        for name, one in entry["systems"].items()
    ]
    if record["average"]:
        blank = [MISSING] * (len(head) - 4)
        rows += [
            [AVERAGE, name, number(one["mean"]), interval(one["interval"]), *blank]
            for name, one in record["average"]["systems"].items()
        ]
    return {"head": head, "rows": rows}


def leak_free_table(record: Mapping[str, Any]) -> Table | None:
    """Every system's official mean and, beside it, those on the leak-free subsets with their sizes.

    Collections whose training gives no query away are left out; None where that is all of them, and for
    records from before the subsets were recorded.
    """
    entries = [entry for entry in record["collections"] if entry.get("leak_free")]
    if not entries:
        return None
    names = list(dict.fromkeys(one["name"] for entry in entries for one in entry["leak_free"]))
    head = ["Collection", "System", f"{metric_name(record['metric'])}, all queries", *map(subset_name, names)]
    rows = []
    for entry in entries:
        subsets = {one["name"]: one for one in entry["leak_free"]}
        for system, official in entry["systems"].items():
            means = [
                {"queries": subsets[name]["queries"], "mean": subsets[name]["systems"][system]}
                for name in names
            ]
            cells = [leak_free_cell(one, "mean", entry["queries"]) for one in means]
            rows.append([entry["name"], system, f"{official['mean']:.4f} ({entry['queries']:,})", *cells])
    return {"head": head, "rows": rows}


def differences_table(record: Mapping[str, Any]) -> Table:
    """Every pair on every collection, with all that says how sure and how large its difference is."""
    head = ["Collection", "System", "Against", "Difference", "95% interval", "p", "p after Holm",
            "Effect size", "Better / equal / worse", "Queries needed"]  # fmt: skip
    rows = []
    for entry in record["collections"]:
        for pair in entry["pairs"]:
            counts = f"{pair['wins']} / {pair['ties']} / {pair['losses']}"
            needed = MISSING if pair["queries_needed"] is None else integer(pair["queries_needed"])
            effect = MISSING if pair["effect_size"] is None else _two_places(pair["effect_size"])
            rows.append([entry["name"], *_pair_cells(pair), effect, counts, needed])
    for pair in (record["average"] or {"pairs": []})["pairs"]:
        counts = f"{pair['higher']} / {pair['equal']} / {pair['lower']} collections"
        rows.append([AVERAGE, *_pair_cells(pair), MISSING, counts, MISSING])
    return {"head": head, "rows": rows}


def curve_table(entry: Mapping[str, Any]) -> Table:
    """What the curves of differences show in numbers: counts, and differences at shares of the queries."""
    shares = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
    names = ["greatest loss", "10%", "25%", "median", "75%", "90%", "greatest gain"]
    head = ["System", "Against", "Better", "Equal", "Worse", *names]
    rows = []
    for pair in entry["pairs"]:
        ordered = sorted(differences(entry, pair))
        at = [ordered[round(share * (len(ordered) - 1))] for share in shares]
        counts = [integer(pair[side]) for side in ("wins", "ties", "losses")]
        rows.append([pair["system"], pair["baseline"], *counts, *map(signed, at)])
    return {"head": head, "rows": rows}


def groups_table(groups: Sequence[Mapping[str, Any]], first: str) -> Table:
    """Means and differences by group of queries; ``first`` heads the groups' column."""
    systems = list(groups[0]["systems"]) if groups else []
    head = [first, "Queries", *systems]
    head += [f"{pair['system']} minus {pair['baseline']}" for pair in (groups[0]["pairs"] if groups else [])]
    rows = [
        [group["name"], integer(group["queries"])]
        + [number(group["systems"][name]["mean"]) for name in systems]
        + [f"{signed(pair['difference'])} {interval(pair['interval'])}" for pair in group["pairs"]]
        for group in groups
    ]
    return {"head": head, "rows": rows}


def differences(entry: Mapping[str, Any], pair: Mapping[str, Any]) -> list[float]:
    """The pair's difference on every query, in the order of the queries."""
    ours, theirs = (entry["systems"][pair[side]]["per_query"] for side in ("system", "baseline"))
    return [mine - other for mine, other in zip(ours, theirs, strict=True)]


def terminal(record: Mapping[str, Any]) -> Iterator[str]:
    """Lines for the terminal: a table of means and differences, then the sentences."""
    rows = [["collection", "system", metric_name(record["metric"]), "95% interval", "difference",
             "95% interval", "p (Holm)", "better/equal/worse"]]  # fmt: skip
    for entry in record["collections"]:
        rows += _terminal_rows(entry["name"], entry)
    if record["average"]:
        rows += _terminal_rows(AVERAGE, record["average"])
    yield from _columns(rows)
    leak_free = leak_free_table(record)
    if leak_free is not None:
        yield ""
        yield from _columns([leak_free["head"], *leak_free["rows"]])
    yield ""
    for claim in claims(record):
        yield _plain(claim["text"])
    for note in record["notes"]:
        yield f"note: {_plain(note)}"


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield _plain("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _terminal_rows(name: str, entry: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    pairs = {pair["system"]: pair for pair in entry["pairs"]}
    for system, one in entry["systems"].items():
        row = [name, system, number(one["mean"]), interval(one["interval"])]
        pair = pairs.get(system)
        if pair is None:
            rows.append([*row, "", "", "", ""])
            continue
        counts = f"{pair['wins']}/{pair['ties']}/{pair['losses']}" if "wins" in pair else ""
        cells = [
            signed(pair["difference"]),
            interval(pair["interval"]),
            probability(pair["p_holm"]),
        ]
        rows.append([*row, *cells, counts])
    return rows


def _pair_cells(pair: Mapping[str, Any]) -> list[str]:
    return [
        pair["system"],
        pair["baseline"],
        signed(pair["difference"]),
        interval(pair["interval"]),
        probability(pair["p_value"]),
        probability(pair["p_holm"]),
    ]


def probability(value: float) -> str:
    """``0.012`` or ``< 0.001``, as under a heading that says p."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _shared_metrics(record: Mapping[str, Any]) -> list[str]:
    """Those of the four usual metrics that every result has, but for the one compared by."""
    all_means = [one["means"] for entry in record["collections"] for one in entry["systems"].values()]
    return [
        metric
        for metric in METRICS
        if metric != record["metric"] and all(metric in means for means in all_means)
    ]


def _two_places(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}") if math.isfinite(value) else MISSING


def _plain(text: str) -> str:
    """As one types it: a terminal's search should find a minus and a space."""
    return text.replace("\N{MINUS SIGN}", "-").replace("\N{NO-BREAK SPACE}", " ")


FILTERS: dict[str, Callable[..., str]] = {
    "number": number,
    "signed": signed,
    "integer": integer,
    "interval": interval,
    "metric_name": metric_name,
    "p_value": p_value,
    "probability": probability,
    "sentence": sentence,
    "pair_tone": tone,
}
