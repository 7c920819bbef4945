"""The audit of a mining run as one self-contained HTML page: how hard its negatives are, and how clean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from llara_core.errors import DataError
from llara_core.evaluation import report_text as text
from llara_core.evaluation.pages import render_page, save_page
from llara_core.evaluation.report_charts import COLOURS, Figure

_COLOURS = {
    "positives": COLOURS["adapted"],
    "bm25": COLOURS["bm25"],
    "dense": COLOURS["finetuned"],
    "random": COLOURS["finetuned_without_adaptation"],
}
_NAMES = {"bm25": "BM25", "dense": "the model's search", "random": "random"}
_SUSPICIONS = {
    "past_limit": "taken back from the filter",
    "like_a_positive": "half its words are a positive's",
    "judged_elsewhere": "judged relevant in another split",
    "answers_a_like_query": "positive of a similar query",
}
_REASONS = {
    "positive": "positive of the query, or the query itself",
    "margin": "scores too near the positive",
    "near_duplicate": "nearly the words of a positive",
    "repeated": "same text as a negative already chosen",
    "veto": "the teacher objects",
}
# Share of suspect negatives from which on the page says so at its head.
_FEW, _MANY = 0.05, 0.2
_SPARE = "#8f6b4a"


def write_audit_page(audit: Mapping[str, Any], path: Path) -> Path:
    """Write the page of a mining run and return its path; an older one is replaced whole or not at all.

    Args:
        audit: ``Mined.audit``, or what was read of it from JSON (schema 1).
        path: the HTML file to write; missing parent folders are made.

    Raises:
        DataError: the audit is of another schema, or the file cannot be written.
    """
    return save_page(render_audit(audit), path)


def render_audit(audit: Mapping[str, Any]) -> str:
    """The page as a string; see ``write_audit_page``."""
    if audit.get("schema") != 1:
        raise DataError(
            f"not a mining audit that this version can show: got schema {audit.get('schema')!r}, expected 1; "
            "mine again with this version (`llara mine --audit PAGE.html`)"
        )
    filters: dict[str, Callable[..., Any]] = {
        **text.FILTERS,
        "source_name": lambda source: _NAMES.get(source, source),
        "suspicion": lambda name: _SUSPICIONS.get(name, str(name).replace("_", " ")),
        "reason": lambda name: _REASONS.get(name, str(name).replace("_", " ")),
        "percent": _percent,
    }
    return render_page(
        "audit.html.j2",
        _figures(audit),
        filters,
        audit=audit,
        headline=headline(audit),
        settings=yaml.safe_dump(audit["settings"], sort_keys=False, allow_unicode=True),
    )


def headline(audit: Mapping[str, Any]) -> dict[str, Any]:
    """Title, verdict and figures for the head of the page.

    Returns:
        ``title``, ``sentences`` and ``tiles`` (label, value, note, tone).
    """
    stats, suspected, margins = audit["stats"], audit["suspected"], audit["margins"]
    name, share = audit["facts"]["collection"], suspected["share"]
    if not stats["negatives"]:
        return {
            "title": f"No hard negatives in {name}",
            "sentences": [text.sentence(stats["note"])],
            "tiles": [],
        }
    tone = "good" if share <= _FEW else "even" if share <= _MANY else "bad"
    title = {
        "good": f"Few suspects among the negatives of {name}",
        "even": f"Some suspects among the negatives of {name}",
        "bad": f"Many suspects among the negatives of {name}",
    }[tone]
    sentences = [
        f"{text.integer(stats['negatives'])} negatives for {text.integer(stats['queries'])} queries; "
        f"{_percent(share)} of them may be unjudged answers. A negative lies {text.number(margins['mean'])} "
        f"below its query's best positive on average, and {_percent(margins['above_positive'])} lie above it."
    ]
    if stats["note"]:
        sentences.append(text.sentence(stats["note"]))
    return {"title": title, "sentences": sentences, "tiles": _tiles(audit, tone)}


def _tiles(audit: Mapping[str, Any], tone: str) -> list[dict[str, str]]:
    stats, summary = audit["stats"], audit["scores"]["summary"]
    overlap = audit["overlap"]
    tiles = [
        {
            "label": "suspected false negatives",
            "value": _percent(audit["suspected"]["share"]),
            "note": f"{text.integer(audit['suspected']['count'])} negatives with a mark",
            "tone": tone,
        },
        {
            "label": "mean score of a negative",
            "value": text.number(summary["negatives"]["mean"]),
            "note": f"of a best positive {text.number(summary['positives']['mean'])}",
            "tone": "",
        },
        {
            "label": "queries served short",
            "value": text.integer(stats["queries_short"]),
            "note": f"fewer than {audit['settings']['negatives']} negatives",
            "tone": "bad" if stats["queries_short"] else "",
        },
    ]
    if overlap:
        tiles.append(
            {
                "label": "overlap of the sources",
                "value": _percent(overlap["window"]),
                "note": f"{_percent(overlap['at_10'])} in their first ten",
                "tone": "",
            }
        )
    return tiles


def _percent(share: float) -> str:
    """``3.4%``; what is not quite none is not told as 0.0%."""
    return "under 0.1%" if 0 < share < 0.001 else f"{share:.1%}"


def _figures(audit: Mapping[str, Any]) -> dict[str, Figure]:
    if not audit["stats"]["negatives"]:
        return {}
    figures = {"scores": _scores(audit["scores"]), "margins": _margins(audit["margins"])}
    for source, ranks in audit["ranks"].items():
        if any(ranks["counts"]):
            figures[f"ranks-{source}"] = _ranks(source, ranks)
    left_out = _left_out(audit["excluded"])
    if left_out["data"]:
        figures["excluded"] = left_out
    return figures


def _bars(edges: list[float], counts: list[float], name: str, colour: str) -> dict[str, Any]:
    return {
        "type": "bar",
        "name": name,
        "x": [(low + high) / 2 for low, high in pairwise(edges)],
        "y": counts,
        "width": [high - low for low, high in pairwise(edges)],
        "marker": {"color": colour},
        "customdata": [[low, high] for low, high in pairwise(edges)],
        "hovertemplate": "%{customdata[0]:.3f} to %{customdata[1]:.3f}: %{y:.1%}<extra>" + name + "</extra>",
    }


def _scores(scores: Mapping[str, Any]) -> Figure:
    """Shares of positives and of each source's negatives over the score, one behind the other."""
    groups = {"positives": scores["positives"], **scores["negatives"]}
    traces = []
    for group, counts in groups.items():
        total = max(1, sum(counts))
        colour = _COLOURS.get(group, _SPARE)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "best positive" if group == "positives" else f"negatives: {_NAMES.get(group, group)}",
                "x": [(low + high) / 2 for low, high in pairwise(scores["edges"])],
                "y": [count / total for count in counts],
                "line": {"color": colour, "width": 2, "shape": "hvh"},
                "fill": "tozeroy",
                "fillcolor": colour + "26",  # seen through, so that hills show behind each other
                "hovertemplate": "%{y:.1%}",
            }
        )
    layout = {
        "hovermode": "x unified",
        "xaxis": {"title": {"text": "score"}},
        "yaxis": {"title": {"text": "share"}, "tickformat": ".0%"},
        "showlegend": True,
    }
    return {"data": traces, "layout": layout, "height": 360}


def _margins(margins: Mapping[str, Any]) -> Figure:
    """How far negatives lie below their query's best positive; those above it in the colour of alarm."""
    total = max(1, sum(margins["counts"]))
    bars = _bars(
        margins["edges"], [count / total for count in margins["counts"]], "negatives", _COLOURS["dense"]
    )
    bars["marker"] = {
        "color": [
            _COLOURS["random"] if high <= 0 else _COLOURS["dense"] for _, high in pairwise(margins["edges"])
        ]
    }
    layout = {
        "bargap": 0,
        "xaxis": {"title": {"text": "best positive's score minus the negative's"}},
        "yaxis": {"title": {"text": "share of negatives"}, "tickformat": ".0%"},
        "showlegend": False,
        "shapes": [
            {"type": "line", "x0": 0, "x1": 0, "y0": 0, "y1": 1, "yref": "paper",
             "line": {"color": _COLOURS["random"], "width": 2, "dash": "dash"}}
        ],
    }  # fmt: skip
    return {"data": [bars], "layout": layout, "height": 280}


def _ranks(source: str, ranks: Mapping[str, Any]) -> Figure:
    bars = _bars(ranks["edges"], ranks["counts"], _NAMES.get(source, source), _COLOURS.get(source, _SPARE))
    bars["hovertemplate"] = "rank %{x:.0f}: %{y:,} negatives<extra></extra>"
    layout = {
        "bargap": 0.05,
        "xaxis": {"title": {"text": "number of the draw" if source == "random" else "rank"}},
        "yaxis": {"title": {"text": "negatives"}},
        "showlegend": False,
    }
    return {"data": [bars], "layout": layout, "height": 260}


def _left_out(excluded: Mapping[str, Mapping[str, int]]) -> Figure:
    """What was left out and why, by source."""
    reasons = [reason for reason in _REASONS if any(counts.get(reason) for counts in excluded.values())]
    labels = [reason.replace("_", " ") for reason in reasons]
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": _NAMES.get(source, source),
            "y": labels,
            "x": [counts.get(reason, 0) for reason in reasons],
            "marker": {"color": _COLOURS.get(source, _SPARE)},
            "hovertemplate": "%{y}: %{x:,}<extra>" + _NAMES.get(source, source) + "</extra>",
        }
        for source, counts in excluded.items()
        if reasons
    ]
    layout = {
        "barmode": "stack",
        "xaxis": {"title": {"text": "candidates"}},
        "yaxis": {"autorange": "reversed"},
        "showlegend": len(traces) > 1,
    }
    return {"data": traces, "layout": layout, "height": 90 + 40 * max(1, len(reasons))}
