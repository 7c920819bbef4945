"""``llara rollback``: what served before serves again, model and index together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def rollback(
    name: Annotated[str, typer.Option("--model", help="Registered model.")] = "llara-retriever",
    reason: Annotated[str | None, typer.Option("--reason", help="Why; stands in the mark.")] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="A generation of `llara live`; default: the pair before.")
    ] = None,
    live: Annotated[
        Path | None, typer.Option("--live", help="Live store; default: $LLARA_LOCAL/live/MODEL.")
    ] = None,
    registry_only: Annotated[
        bool, typer.Option("--registry-only", help="Move the alias champion; leave alone what serves.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change; change nothing.")
    ] = False,
) -> None:
    """Bring back the live pair before, and the alias champion with it.

    The version that is left is marked, so that neither the gate nor the indexing brings it back by itself.
    Killed in the middle, the old or the new pair serves, and the same command finishes.
    """
    from llara_core.cli.project import run_module

    arguments = ["--model", name]
    arguments += ["--reason", reason] if reason is not None else []
    arguments += ["--to", to] if to is not None else []
    arguments += ["--live", str(live.expanduser().absolute())] if live is not None else []
    arguments += ["--registry-only"] if registry_only else []
    arguments += ["--dry-run"] if dry_run else []
    if code := run_module("pipelines.rollback", arguments):
        raise typer.Exit(code)
