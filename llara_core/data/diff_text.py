"""A difference between two collections, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llara_core.data.visible import visible

_SIGNS = {"added": "+", "removed": "-", "changed": "~", "renamed": ">", "moved": "^"}
_SHOWN = 100  # characters of a text in one line


def diff_text(difference: Mapping[str, Any]) -> str:
    """What ``diff`` found, as lines; the last one ends without a newline.

    Control, bidi-override and line characters of ids and texts are spelt out (``visible``), so that a
    hostile row cannot move the cursor of a terminal or hide a line.
    """
    a, b = difference["a"], difference["b"]
    head = f"{visible(a['name'])} {a['content_hash'][:12]} → {visible(b['name'])} {b['content_hash'][:12]}"
    if difference["identical"]:
        return f"{head}\nno difference: {difference['documents']['after']:,} documents, same content"
    lines = [head]
    tables = {"documents": difference["documents"], "queries": difference["queries"]}
    tables.update({f"judgements of {visible(name)}": one for name, one in difference["judgements"].items()})
    extras = {"negatives": "negatives", "rows": "rows of adaptation"}
    tables.update({words: difference[name] for name, words in extras.items() if name in difference})
    for name, table in tables.items():
        lines += _table(name, table)
    return "\n".join(lines)


def _table(name: str, table: Mapping[str, Any]) -> Iterator[str]:
    kinds = [kind for kind in _SIGNS if table.get(kind)]
    told = ", ".join(f"{table[kind]:,} {kind}" for kind in kinds) or "no difference"
    yield f"{name}: {table['before']:,} → {table['after']:,} ({told})"
    for kind in kinds:
        examples = table["examples"][kind]
        for example in examples:
            yield f"  {_SIGNS[kind]} {_example(kind, example)}"
        if table[kind] > len(examples):
            yield f"  {_SIGNS[kind]} … {table[kind] - len(examples):,} more {kind}"


def _example(kind: str, example: Mapping[str, Any]) -> str:
    if kind == "moved":
        return f"{_short(example['_id'])}: {_place(example['before'])} → {_place(example['after'])}"
    if "query_id" in example:
        return _judgement(example)
    if isinstance(example.get("before"), Mapping):
        return f"{_judgement(example['before'])} → {_judgement(example['after'])}"
    if kind == "renamed":
        return f"{_short(example['before'])} → {_short(example['after'])}: {_short(example['text'])}"
    if kind == "changed":
        return f"{_short(example['_id'])}: {_short(example['before'])}\n      now: {_short(example['after'])}"
    text = _short(example["text"])
    return text if example["_id"] is None else f"{_short(example['_id'])}: {text}"


def _place(values: Mapping[str, Any]) -> str:
    return f"{_short(values['group'])}, position {values['position']}"


def _judgement(values: Mapping[str, Any]) -> str:
    grade = "" if values["score"] is None else f": {values['score']}"
    return f"{_short(values['query_id'])}, {_short(values['corpus_id'])}{grade}"


def _short(value: Any) -> str:
    text = visible("none" if value is None else str(value))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
