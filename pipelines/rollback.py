"""``python -m pipelines.rollback``, which ``llara rollback`` calls: the champion before is champion again."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Annotated

import typer

from llara_core.errors import LlaraError
from llara_core.operations import logs
from pipelines import environment

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    name: Annotated[str, typer.Option("--model", help="Registered model.")] = "llara-retriever",
    reason: Annotated[str, typer.Option("--reason", help="Stands in the mark.")] = "rolled back by hand",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change; change nothing.")
    ] = False,
) -> None:
    """Move the alias champion back to the version before, and mark the one that is left.

    Exit codes: 0 done, 1 it failed, 2 there is nothing to roll back to.
    """
    try:
        environment.apply()
        # Before the level is set: ZenML sets its own when it is imported.
        importlib.import_module("zenml.client")
        logging.getLogger("zenml").setLevel(logging.WARNING)
        _roll_back(name, reason, dry_run)
    except LlaraError as error:
        logs.say(f"llara: {error}", "ERROR")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        logs.say("llara: interrupted; the same command finishes what was begun", "ERROR")
        sys.exit(1)


def _roll_back(name: str, reason: str, dry_run: bool) -> None:
    from steps.alerting import Alert, alert
    from steps.registry_rollback import roll_back

    done = roll_back(name, reason, dry_run=dry_run)
    if dry_run:
        typer.echo(
            f"{name}: version {done.back} would be champion in place of version {done.left}, which would be "
            "marked as rolled back; nothing has changed"
        )
        return
    words = "a rollback that was cut off is finished: " if done.finished else ""
    typer.echo(f"{name}: {words}version {done.back} is champion again, version {done.left} is marked")
    typer.echo(
        f"Whoever searches takes models:/{name}@champion and the index that was made with version "
        f"{done.back}; an index of another version refuses its queries."
    )
    facts = {"model": name, "champion": done.back, "left": done.left}
    alert(Alert("rollback", f"{name} is at version {done.back} again", done.reason, "warning", facts))


if __name__ == "__main__":
    app()
