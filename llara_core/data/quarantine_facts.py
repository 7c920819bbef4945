"""What a page tells of the rows that were put aside or marked: counts and a few examples of each rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from llara_core.data.row_rules import STATEMENTS
from llara_core.data.visible import visible, visible_bytes

EXAMPLES = 5  # of a rule
SHOWN_BYTES = 240  # of a row
_BATCH = 4096


def quarantine_facts(table: pa.Table, examples: int = EXAMPLES) -> dict[str, Any]:
    """Count a quarantine by rule and show its first rows.

    Args:
        table: of ``quarantine.SCHEMA``; may be memory-mapped, of any size.
        examples: shown of each rule: first those that were put aside, in the order in which they were read.

    Returns:
        ``rows`` (of the table) and ``rules``: name → ``statement`` (what must hold), ``actions`` (action →
        rows), ``files`` (file → rows) and ``examples``, each with ``file``, ``row``, ``action``, ``reason``,
        ``raw`` (beginning of the row, characters that act instead of show spelt out), ``size`` in bytes and
        ``cut`` (whether more of the row is kept than shown). Rules with most rows come first.
    """
    names: Counter[tuple[str, str, str]] = Counter()
    shown: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for batch in table.to_batches(max_chunksize=_BATCH):
        rules, actions, files = (batch[name].to_pylist() for name in ("rule", "action", "file"))
        for row, key in enumerate(zip(rules, actions, files, strict=True)):
            names[key] += 1
            found = shown.setdefault((key[0], key[1] == "quarantine"), [])
            if len(found) < examples:
                found.append(_example(batch.slice(row, 1).to_pylist()[0]))
    totals: Counter[str] = Counter()
    for (rule, _, _), rows in names.items():
        totals[rule] += rows
    ordered = sorted(totals, key=lambda rule: (-totals[rule], rule))
    return {
        "rows": table.num_rows,
        "rules": {
            rule: {
                "statement": STATEMENTS.get(rule, rule),
                "actions": _by(names, rule, 1),
                "files": _by(names, rule, 2),
                "examples": [*shown.get((rule, True), []), *shown.get((rule, False), [])][:examples],
            }
            for rule in ordered
        },
    }


def _by(names: Mapping[tuple[str, str, str], int], rule: str, place: int) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for key, rows in names.items():
        if key[0] == rule:
            counts[key[place]] += rows
    return dict(counts.most_common())


def _example(row: Mapping[str, Any]) -> dict[str, Any]:
    raw = row["raw"] or b""
    if not raw and row.get("record"):
        raw = row["record"].encode("utf-8", "backslashreplace")
    return {
        "file": visible(row["file"] or ""),
        "row": row["row"],
        "action": row["action"],
        "reason": visible(row["reason"] or ""),
        "raw": visible_bytes(raw[:SHOWN_BYTES]),
        "size": row["size"],
        "cut": len(raw) > SHOWN_BYTES,
    }
