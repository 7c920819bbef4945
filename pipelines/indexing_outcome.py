"""What a finished indexing tells the person who started it."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llara_core.operations.decision import Verdict

_MARKS = {True: "holds", False: "[bold]fails[/]", None: "-"}


def show(run: Any, console: Console) -> None:
    """Print what was made, what the canary saw, and what serves.

    Args:
        run: the finished run of the indexing pipeline.
        console: where to print.
    """
    staged = _output(run, "stage_pair", "staged")
    verdict = Verdict.of(_output(run, "canary", "canary_verdict"))
    outcome = _output(run, "cutover", "live_outcome")
    console.print()
    if verdict.checks:
        table = Table(title=f"What the canary saw of {staged['generation']}")
        table.add_column("check", no_wrap=True)
        table.add_column("", no_wrap=True)
        table.add_column("found")
        for check in verdict.checks:
            table.add_row(check.name, _MARKS[check.passed], escape(check.words))
        console.print(table)
    counts = ", ".join(f"{count} {name}" for name, count in staged["counts"].items())
    made = f"{staged['how']}: {staged['generation']}{f' ({counts})' if counts else ''}"
    console.print(f"[bold]Made[/]       {escape(made)}", highlight=False)
    console.print(f"[bold]Canary[/]     {verdict.action}: {escape(verdict.reason)}", highlight=False)
    console.print(f"[bold]Live[/]       {escape(outcome['words'])}", highlight=False)
    console.print("[bold]Look on[/]    llara live   (what serves)   llara rollback   (the pair before)")


def _output(run: Any, step: str, output: str) -> Any:
    return run.steps[step].outputs[output][0].load()
