"""The model card: README.md in a bundle, as model hubs show it, made from ``llara.json`` alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import yaml

from llara_core.data.visible import visible

if TYPE_CHECKING:
    from llara_core.model.bundle import Bundle

CARD_PAGE = "README.md"
_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_{}[]<>()#+!|~&"})


def model_card(bundle: Bundle) -> str:
    """The card in Markdown: use, data with hashes and counts, stages, scores. It holds no date and no path.

    Source: issue 5, point 7.
    """
    head = yaml.safe_dump(
        {"library_name": "llara", "pipeline_tag": "feature-extraction", "tags": ["llara", "dense-retrieval"]},
        sort_keys=False,
    )
    lines = [
        f"---\n{head}---\n",
        "# Dense retriever made by llara\n",
        "```python\nfrom llara_core import Retriever\n\nretriever = Retriever.from_pretrained(FOLDER)\n```\n",
        *data_section(bundle),
        *stages_section(bundle),
        *_scores(bundle.scores),
    ]
    return "\n".join(lines)


def data_section(bundle: Bundle) -> Iterator[str]:
    """What it was trained on, with hashes and counts; nothing where nothing is known."""
    if not bundle.data_hashes and not bundle.data:
        return
    yield "## Data\n"
    yield "| collection | used by | documents | queries | judgements | content hash |"
    yield "|---|---|---:|---:|---|---|"
    for one in bundle.data:
        splits = ", ".join(f"{plain(name)} {rows:,}" for name, rows in one["judgements"].items()) or "none"
        yield (
            f"| {plain(one['name'])} | {plain(', '.join(one['stages']))} | {one['documents']:,} "
            f"| {one['queries']:,} | {splits} | `{one['content_hash']}` |"
        )
    told = {(one["name"], one["content_hash"]) for one in bundle.data}
    for name, content_hash in bundle.data_hashes.items():  # bundles of older versions know no more
        if (name, content_hash) not in told:
            yield f"| {plain(name)} | | | | | `{content_hash}` |"
    yield ""
    for one in bundle.data:
        remarks = list(_remarks(one))
        if remarks:
            yield f"{plain(one['name'])} (`{one['content_hash'][:12]}`): {'; '.join(remarks)}.\n"


def _remarks(one: Mapping[str, Any]) -> Iterator[str]:
    for key in ("format", "revision", "commit"):
        if key in one:
            yield f"{key} {plain(one[key])}"
    if "rows" in one and "read" in one["rows"]:
        counts = one["rows"]
        yield (
            f"{counts['read']:,} rows read, {counts.get('accepted', 0):,} accepted, "
            f"{counts.get('quarantined', 0):,} put aside, {counts.get('flagged', 0):,} marked"
        )
    if "repeats" in one.get("duplicates", {}):
        found = one["duplicates"]
        yield f"{found['repeats']:,} documents repeat another, {found.get('removed', 0):,} left out"
    if "leaking_queries" in one.get("leaks", {}):
        found = one["leaks"]
        yield (
            f"{found['leaking_queries']:,} of {found.get('evaluation_queries', 0):,} queries of "
            f"{plain(found.get('split', 'test'))} leak into training ({plain(found.get('action', 'mark'))})"
        )


def stages_section(bundle: Bundle) -> Iterator[str]:
    """The stages in their order, with first and last loss."""
    if bundle.history:
        yield "## Stages\n"
        for stage in bundle.history:
            losses = [line["loss"] for line in stage.curve if "loss" in line]
            told = f": loss {losses[0]:.4f} to {losses[-1]:.4f}" if losses else ""
            yield f"- {plain(stage.name)}{told}"
        yield ""


def _scores(scores: Mapping[str, float]) -> Iterator[str]:
    if scores:
        yield "## Scores\n"
        yield "| collection/system/metric | value |\n|---|---:|"
        for name, value in sorted(scores.items()):
            yield f"| {plain(name)} | {value:.4f} |"
        yield ""


def plain(value: Any) -> str:
    """Text that Markdown and HTML show as it is: names come from whoever made the data."""
    return visible(str(value)).translate(_MARKS)
