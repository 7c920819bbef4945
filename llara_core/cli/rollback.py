"""``llara rollback``: the champion before is champion again."""

from __future__ import annotations

from typing import Annotated

import typer


def rollback(
    name: Annotated[str, typer.Option("--model", help="Registered model.")] = "llara-retriever",
    reason: Annotated[str | None, typer.Option("--reason", help="Why; stands in the mark.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change; change nothing.")
    ] = False,
) -> None:
    """Move the alias champion back to the version before, and mark the one that is left.

    The mark keeps the gate from bringing it back by itself. Killed in the middle, the same command finishes.
    """
    from llara_core.cli.project import run_module

    arguments = ["--model", name]
    arguments += ["--reason", reason] if reason is not None else []
    arguments += ["--dry-run"] if dry_run else []
    if code := run_module("pipelines.rollback", arguments):
        raise typer.Exit(code)
