"""What a finished tick tells the person who started it."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llara_core.operations.decision import Verdict

_MARKS = {True: "holds", False: "[bold]fails[/]", None: "-"}


def show(run: Any, console: Console) -> None:
    """Print every check, the decision, and what followed.

    Args:
        run: the finished run of the retraining pipeline.
        console: where to print.
    """
    verdict = Verdict.of(_output(run, "decide", "verdict"))
    outcome = _output(run, "act", "tick_outcome")
    table = Table(title="What the tick looked at")
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("found")
    for check in verdict.checks:
        table.add_row(check.name, _MARKS[check.passed], escape(check.words))
    console.print()
    console.print(table)
    console.print(f"[bold]Decided[/]    {verdict.action}: {escape(verdict.reason)}", highlight=False)
    console.print(f"[bold]Then[/]       {escape(outcome['words'])}", highlight=False)
    console.print("[bold]Look on[/]    llara ticks --checks   (all decisions)")


def _output(run: Any, step: str, output: str) -> Any:
    return run.steps[step].outputs[output][0].load()
