"""The page and the figures of a side-by-side comparison, made from its record alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llara_core.evaluation import side_by_side_charts as charts
from llara_core.evaluation import side_by_side_text as text
from llara_core.evaluation.figure_files import write_png
from llara_core.evaluation.pages import render_page, save_page
from llara_core.evaluation.report_charts import metric_name
from llara_core.evaluation.report_text import number, signed
from llara_core.evaluation.side_by_side import check_record
from llara_core.evaluation.side_by_side_queries import KINDS, LEAST_QUERIES, OTHER_KINDS

_CLAIMS = 8  # sentences at the head of the page; further ones are folded away
_TILES = 4  # systems shown in large letters at the head of the page


def write_page(record: Mapping[str, Any], path: Path) -> Path:
    """Write one self-contained HTML page and return its path; an older page is replaced whole or not at all.

    Args:
        record: what ``compare_systems`` gave, or its JSON read again.
        path: the HTML file; missing parent folders are made.

    Raises:
        DataError: not such a record, or the file cannot be written.

    Source: issue 4, point 8.
    """
    return save_page(render(record), path)


def write_figures(record: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write every plot of the page as a PNG file of 1720 pixels' width; returns the files.

    Args:
        record: what ``compare_systems`` gave, or its JSON read again.
        folder: gets ``means.png``, ``differences.png`` and, per collection, ``<name>-curve.png``,
            ``<name>-by-length.png`` and ``<name>-by-type.png``; made where it is missing.

    Raises:
        DataError: not such a record, or a file cannot be written.
        MissingDependencyError: kaleido or a browser is missing; says what to install.
        LlaraError: the browser could not draw.
    """
    check_record(record)
    names = charts.file_names(record)
    return write_png({names[key]: figure for key, figure in charts.figures_of(record).items()}, folder)


def render(record: Mapping[str, Any]) -> str:
    """The page as a string; see ``write_page``."""
    check_record(record)
    figures = charts.figures_of(record)
    return render_page(
        "side_by_side.html.j2",
        figures,
        text.FILTERS,
        record=record,
        title=text.title(record),
        claims=text.claims(record),
        told=_CLAIMS,
        tiles=_tiles(record),
        tables=_tables(record, figures),
        colours=charts.colours_of(record["systems"]),
        kinds=_kinds(record),
        least=LEAST_QUERIES,
        tests=sum(len(entry["pairs"]) for entry in record["collections"]),
    )


def _tables(record: Mapping[str, Any], figures: Mapping[str, Any]) -> dict[str, text.Table]:
    """The table below each figure, by the figure's id: the same numbers for those who cannot see it."""
    tables = {"means": text.means_table(record), "differences": text.differences_table(record)}
    for place, entry in enumerate(record["collections"]):
        tables[f"curve-{place}"] = text.curve_table(entry)
        tables[f"length-{place}"] = text.groups_table(entry["by_length"], "Length")
        tables[f"type-{place}"] = text.groups_table(entry["by_type"], "Type")
    shown = {key: table for key, table in tables.items() if key in figures}
    leak_free = text.leak_free_table(record)
    return shown if leak_free is None else {**shown, "leak-free": leak_free}


def _tiles(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every system's mean, or its average over the collections, in large letters."""
    source = record["average"] or record["collections"][0]
    pairs = {pair["system"]: pair for pair in source["pairs"]}
    metric = metric_name(record["metric"])
    tiles = []
    for name in record["systems"][:_TILES]:
        note = f"{metric}{', average' if record['average'] else ''}"
        pair = pairs.get(name)
        if pair:
            note += f", {signed(pair['difference'])} against {pair['baseline']}"
        tone = text.tone(pair) if pair else ""
        value = number(source["systems"][name]["mean"])
        tiles.append({"label": name, "value": value, "note": note, "tone": tone})
    return tiles


def _kinds(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The kinds of query that the page shows, with the rule that each is told by."""
    shown = {group["name"] for entry in record["collections"] for group in entry["by_type"]}
    rules = [(name, rule) for name, rule in KINDS.items() if name in shown]
    if OTHER_KINDS in shown:
        rules.append((OTHER_KINDS, f"kinds with fewer than {LEAST_QUERIES} queries"))
    return rules
