"""The plots of a side-by-side comparison, as plain plotly figures like those of ``report_charts``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from llara_core.evaluation.report_charts import COLOURS, OTHER_COLOURS, Figure, label, metric_name, whiskers
from llara_core.evaluation.report_text import SIGNIFICANT
from llara_core.evaluation.report_text import number as show_number
from llara_core.evaluation.report_text import signed as show_signed
from llara_core.evaluation.side_by_side_text import AVERAGE, differences

PALETTE = ("#3b6ef5", "#cf7418", "#17928a", "#a678c8", *OTHER_COLOURS)
# Heights in pixels: of a point's row, between groups, of axis and legend, of a further line of the legend.
ROW, GAP, FRAME, KEY = 24, 18, 84, 16
LABELLED = 24  # points up to which each carries its number
HOVERED_QUERIES = 2_000  # up to which hovering over a curve names the query: the page would grow too large
HOVERED_CHARACTERS = 70

ZERO = {"zeroline": True, "zerolinewidth": 2, "zerolinecolor": "rgba(127,127,127,.85)"}  # on light and dark

Cell = Mapping[str, Any]  # {"value": float, "interval": [low, high], "sure": bool}


def colours_of(systems: Sequence[str]) -> dict[str, str]:
    """A colour for each system: names that reports know keep theirs, the others take what is left."""
    chosen = {name: COLOURS[name] for name in systems if name in COLOURS}
    free = [colour for colour in PALETTE if colour not in chosen.values()]
    for place, name in enumerate(name for name in systems if name not in chosen):
        chosen[name] = free[place % len(free)]
    return chosen


def figures_of(record: Mapping[str, Any]) -> dict[str, Figure]:
    """Plots by id: ``means``, ``differences``, and per collection ``curve-0``, ``length-0``, ``type-0``."""
    colours = colours_of(record["systems"])
    figures = {"means": means(record, colours), "differences": forest(record, colours)}
    for place, entry in enumerate(record["collections"]):
        figures[f"curve-{place}"] = curve(entry, colours, record["metric"])
        for kind in ("length", "type"):
            groups = entry[f"by_{kind}"]
            if len(groups) > 1:
                figures[f"{kind}-{place}"] = group_forest(groups, colours, record["metric"])
    return figures


def file_names(record: Mapping[str, Any]) -> dict[str, str]:
    """A readable file name without ending for each figure: ``scifact-curve``."""
    names = {"means": "means", "differences": "differences"}
    for place, entry in enumerate(record["collections"]):
        stem = re.sub(r"[^\w.-]+", "_", entry["name"]).strip("._") or "collection"
        taken = set(names.values())
        if f"{stem}-curve" in taken:
            stem = f"{stem}-{place}"
        names |= {f"curve-{place}": f"{stem}-curve", f"length-{place}": f"{stem}-by-length",
                  f"type-{place}": f"{stem}-by-type"}  # fmt: skip
    return names


def means(record: Mapping[str, Any], colours: Mapping[str, str]) -> Figure:
    """Means with their intervals, a group of rows per collection."""
    groups = [
        (
            label(entry["name"]),
            {
                name: {"value": one["mean"], "interval": one["interval"], "sure": True}
                for name, one in entry["systems"].items()
            },
        )
        for entry in _with_average(record)
    ]
    return _dots(groups, record["systems"], colours, metric_name(record["metric"]), signed=False)


def forest(record: Mapping[str, Any], colours: Mapping[str, str]) -> Figure:
    """Differences from the baseline with their intervals; open where they may be chance."""
    groups = [
        (label(entry["name"]), {pair["system"]: _cell(pair) for pair in entry["pairs"]})
        for entry in _with_average(record)
    ]
    axis = _difference_title(record["metric"], record["systems"], record["baseline"])
    return _dots(groups, record["systems"][1:], colours, axis, signed=True)


def group_forest(groups: Sequence[Mapping[str, Any]], colours: Mapping[str, str], metric: str) -> Figure:
    """The same by group of queries; nothing is tested here, so nothing is open."""
    pairs = groups[0]["pairs"]
    systems = [pair["system"] for pair in pairs]
    rows = [
        (
            f"{label(group['name'])}<br>{group['queries']:,} queries",
            {
                pair["system"]: {"value": pair["difference"], "interval": pair["interval"], "sure": True}
                for pair in group["pairs"]
            },
        )
        for group in groups
    ]
    axis = _difference_title(metric, [pairs[0]["baseline"], *systems], pairs[0]["baseline"])
    return _dots(rows, systems, colours, axis, signed=True)


def curve(entry: Mapping[str, Any], colours: Mapping[str, str], metric: str) -> Figure:
    """Differences of all queries, sorted: gains on the left, losses on the right, ties between."""
    traces = []
    for pair in entry["pairs"]:
        values = differences(entry, pair)
        order = sorted(range(len(values)), key=lambda place: -values[place])
        trace: Figure = {
            "type": "scatter",
            "mode": "lines",
            "name": label(pair["system"]),
            "x": list(range(1, len(values) + 1)),
            "y": [values[place] for place in order],
            "line": {"color": colours[pair["system"]], "width": 2, "shape": "hvh"},
            "hovertemplate": "%{y:+.3f}<extra></extra>",
        }
        if len(entry["pairs"]) == 1:
            trace |= {"fill": "tozeroy"}
        if len(values) <= HOVERED_QUERIES:
            trace["customdata"] = [_shown(entry, place) for place in order]
            trace["hovertemplate"] = "%{customdata}<br>%{y:+.3f}<extra>" + label(pair["system"]) + "</extra>"
        traces.append(trace)
    systems = [entry["pairs"][0]["baseline"], *(pair["system"] for pair in entry["pairs"])]
    furthest = max(0.1, *(abs(value) for trace in traces for value in trace["y"]))
    layout = {
        "xaxis": {
            "title": {"text": "queries, the greatest gain first"},
            "range": [0.5, entry["queries"] + 0.5],
        },
        "yaxis": {
            "title": {"text": _difference_title(metric, systems, systems[0], short=True)},
            "range": [-1.05 * furthest, 1.05 * furthest],  # the same both ways: gains and losses compare
            "tickformat": "~r",
            **ZERO,
        },
        "showlegend": len(traces) > 1,
        "hovermode": "closest",
    }
    return {"data": traces, "layout": layout, "height": 320}


def _cell(pair: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "value": pair["difference"],
        "interval": pair["interval"],
        "sure": pair["p_holm"] < SIGNIFICANT,
    }


def _with_average(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    average = record["average"]
    return [*record["collections"], *([{"name": AVERAGE, **average}] if average else [])]


def _difference_title(metric: str, systems: Sequence[str], baseline: str, short: bool = False) -> str:
    if short:
        return f"difference in {metric_name(metric)}"
    if len(systems) == 2:
        return f"{metric_name(metric)} of {label(systems[1])}<br>minus that of {label(baseline)}"
    return f"{metric_name(metric)} minus that of {label(baseline)}"


def _shown(entry: Mapping[str, Any], place: int) -> str:
    texts = entry["query_texts"]
    text = texts[place] if texts else entry["query_ids"][place]
    return label(text if len(text) <= HOVERED_CHARACTERS else f"{text[:HOVERED_CHARACTERS].rstrip()} …")


def _dots(
    groups: Sequence[tuple[str, Mapping[str, Cell]]],
    systems: Sequence[str],
    colours: Mapping[str, str],
    axis: str,
    *,
    signed: bool,
) -> Figure:
    """Points with intervals: a group of rows per label, and in it a row per system, from the top down."""
    step = len(systems) + GAP / ROW
    middles = [place * step + (len(systems) - 1) / 2 for place in range(len(groups))]
    rows_of = {
        system: [place * step + row for place in range(len(groups))] for row, system in enumerate(systems)
    }
    traces = []
    for system in systems:
        cells = [cells[system] for _, cells in groups]
        traces.append(_points(system, cells, rows_of[system], colours[system], signed))
    if len(groups) * len(systems) <= LABELLED:
        traces += [_numbers(system, [cells[system] for _, cells in groups], rows_of[system], signed)
                   for system in systems]  # fmt: skip
    traces += [_key(system, colours[system]) for system in systems]
    low, high = _range(groups, signed)
    layout = {
        "xaxis": {
            "title": {"text": axis},
            "range": [low, high],
            "tickformat": "~r",
            "nticks": 5,
            "tickangle": 0,
            **(ZERO if signed else {"zeroline": False}),
        },
        "yaxis": {
            "tickvals": middles,
            "ticktext": [name for name, _ in groups],
            "range": [(len(groups) - 1) * step + len(systems) - 0.4, -0.6],
            "showgrid": False,
            "zeroline": False,
        },
        "showlegend": len(systems) > 1,
        "hovermode": "closest",
    }
    keys = KEY * ((len(systems) - 1) // 2)  # on a phone two systems stand in a line of the legend
    return {"data": traces, "layout": layout, "height": round(FRAME + keys + ROW * step * len(groups))}


def _points(system: str, cells: Sequence[Cell], rows: Sequence[float], colour: str, signed: bool) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": label(system),
        "x": [cell["value"] for cell in cells],
        "y": list(rows),
        "marker": {
            "color": colour,
            "size": 10,
            "symbol": ["circle" if cell["sure"] else "circle-open" for cell in cells],
            "line": {"width": 2, "color": colour},
        },
        "error_x": whiskers([cell["value"] for cell in cells], [cell["interval"] for cell in cells]),
        "showlegend": False,
        "customdata": [list(cell["interval"]) for cell in cells],
        "hovertemplate": (
            f"{label(system)}: %{{x:{'+' if signed else ''}.3f}}"
            " [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<extra></extra>"
        ),
    }


def _key(system: str, colour: str) -> Figure:
    """What the legend shows; plotly would show the first point, which may be an open one."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": label(system),
        "x": [None],
        "y": [None],
        "marker": {"color": colour, "size": 10},
    }


def _numbers(system: str, cells: Sequence[Cell], rows: Sequence[float], signed: bool) -> Figure:
    """The numbers, behind the whiskers where neither hides the other."""
    return {
        "type": "scatter",
        "mode": "text",
        "name": label(system),
        "x": [max(cell["interval"][1], cell["value"]) for cell in cells],
        "y": list(rows),
        "text": [
            f" {show_signed(cell['value']) if signed else show_number(cell['value'])}" for cell in cells
        ],
        "textposition": "middle right",
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _range(groups: Sequence[tuple[str, Mapping[str, Cell]]], signed: bool) -> tuple[float, float]:
    """From the lowest to the highest bound, with room for the numbers; differences show zero."""
    cells = [cell for _, row in groups for cell in row.values()]
    bounds = [bound for cell in cells for bound in (*cell["interval"], cell["value"])]
    low, high = min(bounds), max(bounds)
    if signed:
        low, high = min(low, 0.0), max(high, 0.0)
    span = (high - low) or 0.02
    return low - 0.06 * span, high + 0.36 * span  # a number takes a quarter of a phone's width
