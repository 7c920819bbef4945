"""``llara ticks``: what the retraining decided, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

import typer

from llara_core.cli.local_state import local_state


def ticks(
    model: Annotated[str | None, typer.Option("--model", help="Registered model; default: all.")] = None,
    last: Annotated[int, typer.Option("--last", "-n", min=1, help="How many, newest last.")] = 10,
    checks: Annotated[bool, typer.Option("--checks", help="Show every check of each.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, on stdout.")] = False,
    local: Annotated[
        Path | None, typer.Option("--local", help="Local state; default: $LLARA_LOCAL, else the project's.")
    ] = None,
) -> None:
    """List the last decisions of the retraining, with what followed."""
    from llara_core.operations.freshness_history import FOLDER, file_of, read

    folder = local_state(local)
    files = sorted((folder / FOLDER).glob("*.jsonl")) if model is None else [file_of(folder, model)]
    found = [{"model": unquote(file.stem), **tick} for file in files for tick in read(file)]
    chosen = sorted(found, key=lambda tick: str(tick.get("time", "")))[-last:]
    for tick in chosen:
        typer.echo(json.dumps(tick, ensure_ascii=False, sort_keys=True) if as_json else _words(tick, checks))
    if not chosen and not as_json:
        typer.echo(f"no ticks yet below {folder / FOLDER}; the first: python -m pipelines retraining")


def _words(tick: Mapping[str, Any], checks: bool) -> str:
    outcome = tick.get("outcome") or {}
    lines = [f"{tick.get('time', '?')}  {tick['model']}  {tick.get('action', '?')}: {tick.get('reason', '')}"]
    if outcome:
        lines.append(f"  then: {outcome.get('words') or outcome.get('state')}")
    elif tick.get("action") in ("train", "refresh"):
        lines.append("  then: nothing is recorded; it is at work, or was cut off")
    if checks:
        marks = {True: "holds", False: "FAILS", None: "-"}
        lines += [
            f"  {marks[one['passed']]:5} {one['name']}: {one['words']}" for one in tick.get("checks", [])
        ]
    return "\n".join(lines)
