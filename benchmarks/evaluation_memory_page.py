"""The page of ``evaluation_memory.py``: lines through what was measured, and where they lead for MS MARCO."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llara_core.evaluation.beir_sets import beir_set

QUERIES, DEPTH = 500, 1000
PASSAGE = 335  # characters, about MS MARCO's mean
MACHINE = 24e9
_ID = 64  # bytes of a short Python string and of its place in a list


def page(points: dict[str, list[dict[str, float]]]) -> str:
    """The results as Markdown, with the projection to MS MARCO."""
    msmarco, wide = beir_set("msmarco"), 4096
    per_passage, fixed = line(points["judge"], "documents")
    per_dimension, _ = line(points["dimension"], "dimension")
    per_row, reading = line(points["load"], "documents")
    per_row_seconds = points["load"][-1]["seconds"] / points["load"][-1]["documents"]
    start = max(one["start"] for kind in points.values() for one in kind)
    narrow = points["judge"][0]["dimension"]
    per_query, _ = line(points["queries"], "queries")
    parts = {
        "the interpreter and its libraries": start,
        f"corpus as Arrow, {per_row:.0f} bytes a passage": reading + per_row * msmarco.documents,
        f"evaluation, {per_passage:.1f} bytes a passage": fixed + per_passage * msmarco.documents,
        f"blocks of wider vectors, {per_dimension / 1e3:.0f} kB a dimension": per_dimension * (wide - narrow),
        f"results of {msmarco.queries:,} queries, {per_query / DEPTH:.0f} bytes each": per_query
        * (msmarco.queries - QUERIES),
        "ids of what is found, if no two queries share any": float(_ID * msmarco.queries * DEPTH),
        "vectors of the queries": 4.0 * msmarco.queries * wide,
    }
    total = sum(parts.values())
    text = [
        "# What evaluation keeps in memory",
        "",
        "Written by `benchmarks/evaluation_memory.py`. Synthetic data; every row is a process of its own. "
        "*Grown* is the peak of anonymous memory above that of the loaded program; *resident* counts mapped "
        "pages of files too, which the kernel takes back when it needs them.",
        "",
        f"## Judging: {QUERIES} queries, depth {DEPTH:,}, mapped float16 vectors of {narrow:.0f} numbers",
        "",
        *_rows(points["judge"], "passages", "documents"),
        "",
        f"A line through them: {per_passage:.1f} bytes a passage (its vector alone has {2 * narrow:.0f} "
        f"bytes, and stays on disk), and {fixed / 1e6:.0f} MB.",
        "",
        f"## The same at {points['dimension'][0]['documents']:,.0f} passages, by dimension",
        "",
        *_rows(points["dimension"], "dimensions", "dimension"),
        "",
        f"## The same at {points['queries'][0]['documents']:,.0f} passages, by number of queries",
        "",
        *_rows(points["queries"], "queries", "queries"),
        "",
        f"A line through them: {per_query / DEPTH:.0f} bytes for each of a query's {DEPTH:,} results.",
        "",
        f"## Reading JSON lines, {PASSAGE} characters a passage, every row checked",
        "",
        *_rows(points["load"], "passages", "documents"),
        "",
        f"A line through them: {per_row:.0f} bytes a passage. Reading takes {per_row_seconds * 1e6:.0f} "
        "microseconds a passage.",
        "",
        f"## Projected: MS MARCO, {msmarco.documents:,} passages, {wide:,} dimensions",
        "",
        "| part | GB |",
        "|---|---:|",
        *(f"| {what} | {value / 1e9:.2f} |" for what, value in parts.items()),
        f"| **together** | **{total / 1e9:.2f}** |",
        "",
        f"On disk, mapped: {2 * wide * msmarco.documents / 1e9:.1f} GB of float16 vectors. "
        f"{'It fits' if total < MACHINE else 'It does NOT fit'} a machine of {MACHINE / 1e9:.0f} GB. The "
        "model that encodes comes on top (on a GPU: in its own memory).",
        "",
    ]
    return "\n".join(text)


def _rows(points: Sequence[dict[str, float]], what: str, by: str) -> list[str]:
    head = [f"| {what} | grown, MB | resident, MB | seconds |", "|---:|---:|---:|---:|"]
    return head + [
        f"| {one[by]:,.0f} | {one['grown'] / 1e6:.0f} | {one['resident'] / 1e6:.0f} | {one['seconds']:.1f} |"
        for one in points
    ]


def line(points: Sequence[dict[str, float]], by: str) -> tuple[float, float]:
    """Slope and start of the least-squares line of what grew."""
    slope, start = np.polyfit([one[by] for one in points], [one["grown"] for one in points], 1)
    return float(slope), float(start)
