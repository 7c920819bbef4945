"""The report's charts as plain plotly figures: data in, ``{"data", "layout", "height"}`` out.

Figures are dictionaries rather than ``plotly.graph_objects``, which take seconds to import and give
the same JSON. Font, axis and error-bar colours are left to the page, which knows whether its reader
sees it light, dark or on paper.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

Figure = dict[str, Any]

# Told apart by people with any colour vision, and by at least 3:1 from both the light and the dark page.
COLOURS = {
    "bm25": "#7d8796",
    "base": "#a678c8",
    "adapted": "#17928a",
    "finetuned": "#3b6ef5",
    "finetuned_without_adaptation": "#cf7418",
}
OTHER_COLOURS = ("#b8458b", "#5f8f2f", "#8f6b4a")
NAMES = {"bm25": "BM25", "finetuned_without_adaptation": "finetuned without adaptation"}
METRIC_NAMES = {
    "ndcg_at_10": "nDCG@10",
    "mrr_at_10": "MRR@10",
    "recall_at_100": "Recall@100",
    "map_at_100": "MAP@100",
}
SUBSET_NAMES = {
    "all": "All queries",
    "no_near_duplicate": "No near-duplicate in training",
    "unseen_documents": "Documents unseen in training",
}
# What a loss is made of, by its key in a history; drawn thin beside the total.
LOSS_PARTS = {"ebae": "EBAE", "ebar": "EBAR", "language_model": "language model"}
# Under the bars there is room for few letters, on a phone above all.
SHORT_SUBSET_NAMES = {"no_near_duplicate": "no near-<br>duplicate", "unseen_documents": "unseen<br>documents"}
DIFFERENCE_BINS = 20  # of width 0.1 over the whole range of a difference, -1 to 1


def system_name(system: str) -> str:
    """The system as the reader knows it, e.g. ``BM25``."""
    return NAMES.get(system, system.replace("_", " "))


def metric_name(metric: str) -> str:
    """The metric in its usual spelling, e.g. ``nDCG@10``."""
    return METRIC_NAMES.get(metric, metric.replace("_at_", "@"))


def subset_name(subset: str) -> str:
    """The subset in words, e.g. ``No near-duplicate in training``."""
    return SUBSET_NAMES.get(subset, subset.replace("_", " "))


def colour(system: str, position: int = 0) -> str:
    """The system's colour; systems we do not know take the spare ones in turn."""
    return COLOURS.get(system, OTHER_COLOURS[position % len(OTHER_COLOURS)])


def label(text: str) -> str:
    """Text as plotly shows it unread: names come from files, and plotly reads a subset of HTML."""
    return html.escape(text, quote=False)


def whiskers(
    values: Sequence[float], intervals: Sequence[Sequence[float]], *, thin: bool = False
) -> dict[str, Any]:
    """Error bars of plotly from each value to the ends of its interval (low, high), which it may lie outside.

    Args:
        values: [N].
        intervals: [N, 2].
        thin: for many small bars.
    """
    pairs = list(zip(values, intervals, strict=True))
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(0.0, high - value) for value, (_, high) in pairs],
        "arrayminus": [max(0.0, value - low) for value, (low, _) in pairs],
        "thickness": 1.2 if thin else 1.4,
        "width": 3 if thin else 4,
    }


def metric_bars(systems: Sequence[str], scores: Mapping[str, Any], metric: str) -> Figure:
    """Horizontal bars, one per system, with 95% intervals as whiskers.

    Args:
        systems: names in the order judged; the first is drawn at the top.
        scores: ``{system: {metric: {"mean", "interval"}}}`` of one subset.
        metric: which metric to draw.
    """
    shown = [name for name in systems if metric in scores.get(name, {})]
    cells = [scores[name][metric] for name in shown]
    means = [cell["mean"] for cell in cells]
    labels = [label(system_name(name)).replace(" without", "<br>without") for name in shown]
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": labels,
        "x": means,
        "marker": {"color": [colour(name, place) for place, name in enumerate(shown)]},
        "error_x": whiskers(means, [cell["interval"] for cell in cells]),
        "hovertemplate": "%{y}: %{x:.4f}<extra></extra>",
    }
    # The number stands behind the whisker, where neither hides the other, however short the bar.
    values = {
        "type": "scatter",
        "mode": "text",
        "y": labels,
        "x": [cell["interval"][1] for cell in cells],
        "text": [f" {mean:.3f}" for mean in means],
        "textposition": "middle right",
        "hoverinfo": "skip",
    }
    top = max((cell["interval"][1] for cell in cells), default=0.0) or 1.0
    # No metric exceeds 1, so neither does a tick, though the axis leaves room for the numbers.
    ticks = {"tickvals": [0, 0.2, 0.4, 0.6, 0.8, 1.0]} if top > 0.3 else {"nticks": 6}
    layout = {
        "xaxis": {"range": [0, 1.3 * top], "tickformat": ".1f" if top > 0.3 else ".2f", **ticks},
        "yaxis": {"autorange": "reversed"},
        "showlegend": False,
        "bargap": 0.32,
    }
    return {"data": [trace, values], "layout": layout, "height": 50 + 38 * max(1, len(shown))}


def subset_bars(systems: Sequence[str], subsets: Sequence[Mapping[str, Any]], metric: str) -> Figure:
    """Bars grouped by subset, coloured by system: what is left of the gain once leaks are taken out."""
    traces = []
    for place, name in enumerate(systems):
        present = [subset for subset in subsets if metric in subset["systems"].get(name, {})]
        cells = [subset["systems"][name][metric] for subset in present]
        traces.append(
            {
                "type": "bar",
                "name": label(system_name(name)),
                "x": [_short_subset_name(subset["name"]) for subset in present],
                "y": [cell["mean"] for cell in cells],
                "marker": {"color": colour(name, place)},
                "error_y": whiskers(
                    [cell["mean"] for cell in cells], [cell["interval"] for cell in cells], thin=True
                ),
                "hovertemplate": "%{y:.4f}",
            }
        )
    layout = {
        "barmode": "group",
        "bargap": 0.25,
        "yaxis": {"rangemode": "tozero", "title": {"text": metric_name(metric)}},
        "xaxis": {"tickangle": 0},
        "hovermode": "x unified",
    }
    return {"data": traces, "layout": layout, "height": 380}


def _short_subset_name(subset: str) -> str:
    return SHORT_SUBSET_NAMES.get(subset) or label(subset_name(subset))


def loss_curves(histories: Mapping[str, Sequence[Mapping[str, Any]]], names: Mapping[str, str]) -> Figure:
    """Loss (nats) over training steps, one line per series.

    Args:
        histories: stage to its log, ``[{"step": int, "loss": float, ...}]``; of the other keys only
            the parts of the loss are drawn.
        names: stage to the colour key of its arm, e.g. ``{"finetune": "finetuned"}``.
    """
    traces = []
    for place, (stage, rows) in enumerate(histories.items()):
        system = names.get(stage, stage)
        for key, dash in (("loss", "solid"), *zip(LOSS_PARTS, ("dot", "dash", "dashdot"), strict=True)):
            points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
            if not points:
                continue
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers" if len(points) < 3 else "lines",  # one point has no line
                    "name": label(LOSS_PARTS.get(key) or system_name(system)),
                    "x": [step for step, _ in points],
                    "y": [value for _, value in points],
                    "line": {
                        "color": colour(system, place),
                        "width": 2.4 if key == "loss" else 1.2,
                        "dash": dash,
                    },
                    "hovertemplate": "%{y:.3f}",
                }
            )
    layout = {
        "xaxis": {"title": {"text": "step"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": "loss (nats)"}},
        "hovermode": "x unified",
        "showlegend": len(traces) > 1,
    }
    return {"data": traces, "layout": layout, "height": 320}


def length_histogram(histogram: Mapping[str, Any]) -> Figure:
    """Bars over the lengths of texts, with a line where they are cut."""
    edges, counts = histogram["edges"], histogram["counts"]
    trace = {
        "type": "bar",
        "x": [(low + high) / 2 for low, high in itertools.pairwise(edges)],
        "y": list(counts),
        "width": [high - low for low, high in itertools.pairwise(edges)],
        "marker": {"color": COLOURS["adapted"], "line": {"width": 0.5, "color": "rgba(127,127,127,.4)"}},
        "customdata": [[low, high] for low, high in itertools.pairwise(edges)],
        "hovertemplate": "%{customdata[0]:.0f} to %{customdata[1]:.0f}: %{y:,}<extra></extra>",
    }
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": label(str(histogram["unit"]))}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": label(str(histogram["name"]))}},
        "showlegend": False,
        "bargap": 0,
    }
    limit = histogram.get("limit")
    if limit is not None:
        layout["shapes"] = [
            {"type": "line", "x0": limit, "x1": limit, "y0": 0, "y1": 1, "yref": "paper",
             "line": {"color": COLOURS["finetuned_without_adaptation"], "width": 2, "dash": "dash"}}
        ]  # fmt: skip
        layout["annotations"] = [
            {"x": limit, "y": 1, "yref": "paper", "yanchor": "bottom", "showarrow": False,
             "text": f"cut at {limit:,}"}
        ]  # fmt: skip
    return {"data": [trace], "layout": layout, "height": 280}


def difference_histogram(differences: Sequence[float], metric: str, against: str) -> Figure:
    """How many queries gained or lost how much, per query; ties are left out and counted beside it."""
    counts = [0] * DIFFERENCE_BINS
    for value in differences:
        if value != 0:
            counts[min(DIFFERENCE_BINS - 1, int((value + 1) / 2 * DIFFERENCE_BINS))] += 1
    centres = [-1 + (place + 0.5) * 2 / DIFFERENCE_BINS for place in range(DIFFERENCE_BINS)]
    trace = {
        "type": "bar",
        "x": centres,
        "y": counts,
        "width": [2 / DIFFERENCE_BINS] * DIFFERENCE_BINS,
        "marker": {
            "color": [COLOURS["finetuned"] if centre > 0 else COLOURS[against] for centre in centres],
            "line": {"width": 0.5, "color": "rgba(127,127,127,.4)"},
        },
        "hovertemplate": "about %{x:+.2f}: %{y:,} queries<extra></extra>",
    }
    layout = {
        "xaxis": {"title": {"text": f"{metric_name(metric)} minus {label(system_name(against))}'s"},
                  "tickformat": "+.1f", "range": [-1, 1]},
        "yaxis": {"title": {"text": "queries"}},
        "showlegend": False,
        "bargap": 0,
    }  # fmt: skip
    return {"data": [trace], "layout": layout, "height": 280}
