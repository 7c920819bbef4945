"""``llara live``: which pair of model and index serves, and which one a rollback would bring back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llara_core.cli.local_state import local_state

if TYPE_CHECKING:
    from llara_core.operations.live import LiveStore, Pair
    from llara_core.operations.live_pointer import Pointer


def live(
    name: Annotated[str, typer.Option("--model", help="Registered model.")] = "llara-retriever",
    folder: Annotated[
        Path | None, typer.Option("--live", help="Live store; default: live/MODEL of the local state.")
    ] = None,
    local: Annotated[
        Path | None, typer.Option("--local", help="Local state; default: $LLARA_LOCAL, else the project's.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Load model and index of what serves, and compare every byte.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what serves, since when, what served before, and what else is there."""
    from llara_core.operations.live import LiveError, LiveStore

    store = LiveStore(folder if folder is not None else local_state(local) / "live" / name)
    try:
        pointer = store.pointer()
    except LiveError:  # the very moment to know what else there is
        typer.echo(_others(store, {}))
        raise
    if as_json:
        typer.echo(json.dumps(_values(store, pointer), ensure_ascii=False, indent=1))
    else:
        typer.echo(_page(name, store, pointer))
    if verify:
        typer.echo(_verified(store))


def _page(name: str, store: LiveStore, pointer: Pointer) -> str:
    if pointer.current is None:
        return f"{name}: nothing is live below {store.folder}; the first: python -m pipelines indexing"
    lines = [
        f"{name}: {_words(pointer.current)}",
        f"  serves since {pointer.history[-1]['at'] if pointer.history else '?'}",
        f"  model  {pointer.current.model}",
        f"  index  {pointer.current.index}",
        "before: "
        + (
            "none; there is nothing to roll back to"
            if pointer.previous is None
            else f"{_words(pointer.previous)}   (llara rollback)"
        ),
    ]
    if pointer.owed is not None:
        lines.append(
            f"NOT FINISHED: the registry does not know that version {pointer.owed.champion} serves again; "
            "run: llara rollback"
        )
    lines.append("history, newest first:")
    lines += [
        f"  {one['at']}  {one['action']:8} {one['from'] or 'nothing'} -> {one['to']}: {one['reason']}"
        for one in reversed(pointer.history[-10:])
    ]
    lines.append(_others(store, {pointer.current.name: "serves", **_before(pointer), **pointer.taken_back}))
    return "\n".join(lines)


def _before(pointer: Pointer) -> dict[str, str]:
    return {} if pointer.previous is None else {pointer.previous.name: "before"}


def _others(store: LiveStore, told: dict[str, str]) -> str:
    lines = [f"generations in {store.folder}:"]
    for one in store.generations():
        note = told.get(one.name, "")
        if note and note not in ("serves", "before"):
            note = f"rolled back ({note})"
        lines.append(f"  {one.name}  made {one.created}, {_words(one)}{f'  {note}' if note else ''}")
    return "\n".join(lines) if len(lines) > 1 else f"{lines[0]} none"


def _words(pair: Pair) -> str:
    return f"version {pair.version}, {pair.documents} documents"


def _values(store: LiveStore, pointer: Pointer) -> dict[str, Any]:
    return {
        "store": str(store.folder),
        "current": None if pointer.current is None else pointer.current.to_dict(),
        "previous": None if pointer.previous is None else pointer.previous.to_dict(),
        "owed": None if pointer.owed is None else vars(pointer.owed),
        "taken_back": dict(pointer.taken_back),
        "history": [dict(one) for one in pointer.history],
        "generations": [one.name for one in store.generations()],
    }


def _verified(store: LiveStore) -> str:
    """Load what serves; raises where anything of it is damaged."""
    from llara_core.operations.live_staging import check_pair

    current = store.current()
    if current is None:
        return "nothing to verify"
    check_pair(current)
    _, index = current.open("cpu")
    return (
        f"verified: model and index of {current.name} are whole and belong together ({len(index)} documents)"
    )
