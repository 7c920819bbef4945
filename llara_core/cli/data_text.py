"""What ``llara data`` prints for people; ``--json`` prints the records that these texts are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llara_core.data.intake import Taken
from llara_core.data.visible import visible

_SHOWN = 3  # examples of each kind


def ingested_text(taken: Taken, folder: Path) -> str:
    """What was read, what became of it, and where to look at what was put aside."""
    collection, totals = taken.collection, taken.totals
    judged = ", ".join(f"{table.num_rows:,} in {split}" for split, table in sorted(collection.qrels.items()))
    lines = [
        f"{folder}: {collection.name}, {collection.corpus.num_rows:,} documents, "
        f"{collection.queries.num_rows:,} queries, judgements: {judged or 'none'}",
        f"{totals['read']:,} rows read: {totals['accepted']:,} accepted ({totals['flagged']:,} of them "
        f"flagged), {totals['quarantined']:,} put aside",
    ]
    for name, one in taken.record.get("rules", {}).items():
        counts = ", ".join(f"{value:,} {key}" for key, value in one.items() if key != "statement")
        lines.append(f"  {name}: {counts} ({one['statement']})")
    lines.append(f"content hash {collection.content_hash}")
    return "\n".join(lines)


def next_steps(taken: Taken, folder: Path) -> str:
    """What is left to do before a run can use the collection, or ""."""
    lines = []
    if taken.totals["quarantined"]:
        lines.append(f"To mend what was put aside: llara data repair {folder} -o rows.jsonl")
    splits = set(taken.collection.qrels)
    if not splits:
        lines.append("It has no judgements: enough to adapt and to search, not to fine-tune or evaluate.")
    elif splits == {"train"}:
        lines.append("It has no test split: ingest it again with --hold-out 0.2 to be able to evaluate.")
    return "".join(f"\n{line}" for line in lines)


def record_text(record: Mapping[str, Any]) -> str:
    """A report as lines: numbers and words as they are, lists by their length and first entries."""
    return "\n".join(_lines(record, 0))


def _lines(record: Mapping[str, Any], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for key, value in record.items():
        if isinstance(value, Mapping):
            if value:
                yield f"{indent}{key}:"
                yield from _lines(value, depth + 1)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield from _examples(key, value, indent)
        else:
            yield f"{indent}{key}: {_plain(value)}"


def _examples(key: str, values: Sequence[Any], indent: str) -> Iterator[str]:
    if not values:
        return
    more = f" (first {_SHOWN} of {len(values):,})" if len(values) > _SHOWN else ""
    yield f"{indent}{key}{more}:"
    for one in values[:_SHOWN]:
        yield f"{indent}  - {_plain(one)}"


def _plain(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(one)}" for key, one in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_plain(one) for one in value)
    text = visible(" ".join(str(value).split()))
    return text if len(text) <= 120 else f"{text[:119]}…"
