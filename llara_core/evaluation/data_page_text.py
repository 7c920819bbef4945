"""The words of the data report: its title, verdict and large figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llara_core.data.visible import visible
from llara_core.evaluation.report_text import MISSING, integer, number

MUCH = 0.01  # share of the rows put aside from which on the page says so at its head
Tile = dict[str, str]


def headline(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Title, verdict and figures for the head of the page.

    Args:
        facts: as ``data_page.write_data_page`` takes them, absent ones None.

    Returns:
        ``name``, ``title``, ``sentences`` and ``tiles`` (label, value, note, tone).
    """
    profile, counts = facts["profile"], facts["counts"]
    name = visible(profile["name"]) if profile else "data"
    title = f"What {name} holds"
    if counts:
        share = counts["quarantined"] / max(1, counts["read"])
        title = (
            f"Every row of {name} was accepted"
            if not counts["quarantined"]
            else f"{percent(share)} of the rows of {name} were put aside"
        )
    sentences = [*_sizes(profile), *_rows(counts), *_findings(facts)]
    return {"name": name, "title": title, "sentences": sentences, "tiles": list(_tiles(facts))}


def percent(share: float | None) -> str:
    """``3.4%``; what is not quite none is not told as 0.0%, nor what is not quite all as 100%."""
    if share is None:
        return MISSING
    if 0 < share < 0.001:
        return "under 0.1%"
    if 0.999 < share < 1:
        return "over 99.9%"
    return f"{share:.1%}" if share not in (0, 1) else f"{share:.0%}"


def shown_number(value: Any) -> str:
    """A count with commas, a small number with three decimals, a dash for None."""
    if value is None:
        return MISSING
    return integer(value) if float(value).is_integer() else f"{value:,.1f}" if value >= 10 else number(value)


def _sizes(profile: Mapping[str, Any] | None) -> Iterator[str]:
    if profile:
        judged = sum(profile["judgements"].values())
        splits = len(profile["judgements"])
        told = f", {_counted(judged, 'judgement')} in {_counted(splits, 'split')}" if splits else ""
        documents, queries = (_counted(profile[key], one) for key, one in
                              (("documents", "document"), ("queries", "query")))  # fmt: skip
        yield f"{documents}, {queries}{told}."


def _rows(counts: Mapping[str, Any] | None) -> Iterator[str]:
    if counts:
        flagged = f"; {integer(counts['flagged'])} more were marked" if counts.get("flagged") else ""
        yield (
            f"{_counted(counts['read'], 'row')} read, {integer(counts['accepted'])} accepted, "
            f"{integer(counts['quarantined'])} put aside{flagged}."
        )


def _findings(facts: Mapping[str, Any]) -> Iterator[str]:
    leaks, drift = facts["leaks"], facts["drift"]
    if leaks and leaks["leaking_queries"]:
        yield (
            f"{integer(leaks['leaking_queries'])} of the {integer(leaks['evaluation_queries'])} "
            f"{visible(leaks['split'])} queries leak into training: read the score of the leak-free subsets."
        )
    if drift and drift["identical"]:
        yield "The content is the same as last time."


def _tiles(facts: Mapping[str, Any]) -> Iterator[Tile]:
    profile, counts, leaks = facts["profile"], facts["counts"], facts["leaks"]
    if profile:
        words = profile["corpus"]["words"]
        yield _tile(
            "documents", integer(profile["documents"]), f"{shown_number(round(words['mean']))} words each"
        )
        if profile["queries"]:
            mean = profile["query_texts"]["words"]["mean"]
            yield _tile("queries", integer(profile["queries"]), f"{shown_number(round(mean))} words each")
    if counts:
        share = counts["quarantined"] / max(1, counts["read"])
        tone = "bad" if share > MUCH else "good" if not counts["quarantined"] else ""
        yield _tile("rows put aside", integer(counts["quarantined"]), f"{percent(share)} of those read", tone)
    if facts["duplicates"]:
        found = facts["duplicates"]
        share = found["repeats"] / max(1, found["passages"])
        yield _tile("documents that repeat another", integer(found["repeats"]), percent(share))
    if leaks:
        share = leaks["leaking_queries"] / max(1, leaks["evaluation_queries"])
        tone = "bad" if leaks["leaking_queries"] else "good"
        yield _tile(
            "queries that leak", integer(leaks["leaking_queries"]), f"{percent(share)} of those judged", tone
        )
    if facts["drift"]:
        numbers = facts["drift"]["numbers"]
        size = numbers["size_ratio"]
        note = f"size {MISSING if size is None else f'{size:.2f}'} times last time's"
        yield _tile("new documents", percent(numbers["new_share"]), note)


def _tile(label: str, value: str, note: str, tone: str = "") -> Tile:
    return {"label": label, "value": value, "note": note, "tone": tone}


def _counted(count: int, one: str) -> str:
    many = one[:-1] + "ies" if one.endswith("y") else one + "s"
    return f"{integer(count)} {one if count == 1 else many}"
