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
        *_data(bundle),
        *_stages(bundle),
        *_scores(bundle.scores),
    ]
    return "\n".join(lines)


def _data(bundle: Bundle) -> Iterator[str]:
    if not bundle.data_hashes and not bundle.data:
        return
    yield "## Data\n"
    yield "| collection | used by | documents | queries | judgements | content hash |"
    yield "|---|---|---:|---:|---|---|"
    for one in bundle.data:
        splits = ", ".join(f"{_plain(name)} {rows:,}" for name, rows in one["judgements"].items()) or "none"
        yield (
            f"| {_plain(one['name'])} | {_plain(', '.join(one['stages']))} | {one['documents']:,} "
            f"| {one['queries']:,} | {splits} | `{one['content_hash']}` |"
        )
    told = {(one["name"], one["content_hash"]) for one in bundle.data}
    for name, content_hash in bundle.data_hashes.items():  # bundles of older versions know no more
        if (name, content_hash) not in told:
            yield f"| {_plain(name)} | | | | | `{content_hash}` |"
    yield ""
    for one in bundle.data:
        remarks = list(_remarks(one))
        if remarks:
            yield f"{_plain(one['name'])} (`{one['content_hash'][:12]}`): {'; '.join(remarks)}.\n"


def _remarks(one: Mapping[str, Any]) -> Iterator[str]:
    for key in ("format", "revision", "commit"):
        if key in one:
            yield f"{key} {_plain(one[key])}"
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
            f"{_plain(found.get('split', 'test'))} leak into training ({_plain(found.get('action', 'mark'))})"
        )


def _stages(bundle: Bundle) -> Iterator[str]:
    if bundle.history:
        yield "## Stages\n"
        for stage in bundle.history:
            losses = [line["loss"] for line in stage.curve if "loss" in line]
            told = f": loss {losses[0]:.4f} to {losses[-1]:.4f}" if losses else ""
            yield f"- {_plain(stage.name)}{told}"
        yield ""


def _scores(scores: Mapping[str, float]) -> Iterator[str]:
    if scores:
        yield "## Scores\n"
        yield "| collection/system/metric | value |\n|---|---:|"
        for name, value in sorted(scores.items()):
            yield f"| {_plain(name)} | {value:.4f} |"
        yield ""


def _plain(value: Any) -> str:
    """Text that Markdown and HTML show as it is: names come from whoever made the data."""
    return visible(str(value)).translate(_MARKS)
