"""The plots of the data report, as plotly figures. Labels are escaped: plotly reads some HTML in them."""

from __future__ import annotations

import html
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from llara_core.data.visible import visible
from llara_core.evaluation.report_charts import COLOURS, Figure

DOCUMENTS, QUERIES = COLOURS["finetuned"], COLOURS["adapted"]
ASIDE, MARKED = COLOURS["finetuned_without_adaptation"], COLOURS["bm25"]
LANGUAGES_SHOWN = 8
_LABEL = 46  # characters of a label beside a bar
_NAMES = {
    "ar": "Arabic", "bn": "Bengali", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek",
    "en": "English", "es": "Spanish", "fa": "Persian", "fi": "Finnish", "fr": "French", "he": "Hebrew",
    "hi": "Hindi", "hu": "Hungarian", "id": "Indonesian", "it": "Italian", "ja": "Japanese", "ko": "Korean",
    "nl": "Dutch", "no": "Norwegian", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian",
    "sv": "Swedish", "th": "Thai", "tr": "Turkish", "uk": "Ukrainian", "und": "too short to tell",
    "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip


def figures(facts: Mapping[str, Any]) -> dict[str, Figure]:
    """Every plot that the facts have data for, by the id of its place on the page."""
    found: dict[str, Figure] = {}
    profile = facts.get("profile")
    if profile:
        for table, name, colour in (("corpus", "documents", DOCUMENTS), ("query_texts", "queries", QUERIES)):
            if profile[table]["rows"]:
                for unit in ("words", "characters"):
                    found[f"{name}-{unit}"] = lengths(profile[table][unit], name, unit, colour)
        if profile["tokens"]:
            found["documents-tokens"] = lengths(profile["tokens"], "sampled documents", "tokens", DOCUMENTS)
        if profile["languages"]["shares"]:
            found["languages"] = languages(profile["languages"])
    rules = (facts.get("quarantine") or {}).get("rules")
    if rules:
        found["rules"] = broken_rules(rules)
    kinds = (facts.get("leaks") or {}).get("kinds")
    if kinds and any(kind["queries"] for kind in kinds.values()):
        found["leaks"] = leaks(kinds)
    return found


def language_name(code: str) -> str:
    """The English name of a common language, else its code."""
    return _NAMES.get(code, code)


def lengths(distribution: Mapping[str, Any], name: str, unit: str, colour: str) -> Figure:
    """Histogram of lengths up to the 99th percentile."""
    histogram = distribution["histogram"]
    edges, counts = histogram["edges"], histogram["counts"]
    rows = max(1, sum(counts) + histogram["beyond"])
    bars = {
        "type": "bar",
        "x": [(low + high) / 2 for low, high in pairwise(edges)],
        "width": [high - low for low, high in pairwise(edges)],
        "y": counts,
        "customdata": [
            [low, high - 1, count / rows] for (low, high), count in zip(pairwise(edges), counts, strict=True)
        ],
        "marker": {"color": colour, "line": {"width": 0}},
        "hovertemplate": f"%{{customdata[0]:,}} to %{{customdata[1]:,}} {unit}: "
        f"%{{y:,}} {name} (%{{customdata[2]:.1%}})<extra></extra>",
    }
    layout = {
        "bargap": 0.04,
        "xaxis": {"title": {"text": unit}, "range": [0, edges[-1]], "tickformat": ","},
        "yaxis": {"title": {"text": name}, "tickformat": ","},
        "showlegend": False,
    }
    return {"data": [bars], "layout": layout, "height": 260}


def languages(found: Mapping[str, Any]) -> Figure:
    """Share of each language of the sample; those beyond the eighth as one."""
    shares = list(found["shares"].items())
    shown = [(language_name(code), share) for code, share in shares[:LANGUAGES_SHOWN]]
    if shares[LANGUAGES_SHOWN:]:
        shown.append(("others", sum(share for _, share in shares[LANGUAGES_SHOWN:])))
    return _lying({_label(name): share for name, share in shown}, DOCUMENTS, "share of the sample", ".0%")


def leaks(kinds: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Share of the evaluation queries that leak, by how."""
    shares = {_label(name.replace("_", " ")): kind["share"] for name, kind in kinds.items()}
    return _lying(shares, ASIDE, "share of the evaluation queries", ".0%")


def broken_rules(rules: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Rows that broke each rule, those put aside apart from those only marked."""
    labels = [_label(rule.replace("_", " ")) for rule in rules]
    aside = [rule["actions"].get("quarantine", 0) for rule in rules.values()]
    marked = [sum(rule["actions"].values()) - out for rule, out in zip(rules.values(), aside, strict=True)]
    traces = [
        {"type": "bar", "orientation": "h", "name": name, "y": labels, "x": rows, "marker": {"color": colour},
         "hovertemplate": f"%{{y}}: %{{x:,}} {name}<extra></extra>"}
        for name, rows, colour in (("put aside", aside, ASIDE), ("marked", marked, MARKED))
        if any(rows)
    ]  # fmt: skip
    layout = {
        "barmode": "stack",
        "xaxis": {"title": {"text": "rows"}, "tickformat": ",", "rangemode": "tozero"},
        "yaxis": {"autorange": "reversed"},
        "showlegend": True,
    }
    return {"data": traces, "layout": layout, "height": 110 + 30 * len(labels)}


def _lying(shares: Mapping[str, float], colour: str, title: str, shape: str) -> Figure:
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": list(shares),
        "x": list(shares.values()),
        "marker": {"color": colour},
        "hovertemplate": "%{y}: %{x:.1%}<extra></extra>",
    }
    layout = {
        "xaxis": {"title": {"text": title}, "tickformat": shape, "rangemode": "tozero"},
        "yaxis": {"autorange": "reversed"},
        "showlegend": False,
    }
    return {"data": [bars], "layout": layout, "height": 90 + 30 * len(shares)}


def _label(text: str) -> str:
    short = text if len(text) <= _LABEL else f"{text[: _LABEL - 1]}…"
    return html.escape(visible(short))
