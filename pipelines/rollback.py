"""``python -m pipelines.rollback``, which ``llara rollback`` calls: what served before serves again."""

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
    to: Annotated[str | None, typer.Option("--to", help="A generation; default: the pair before.")] = None,
    live: Annotated[str | None, typer.Option("--live", help="Folder of the live store.")] = None,
    registry_only: Annotated[
        bool, typer.Option("--registry-only", help="Move the alias; leave alone what serves.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change; change nothing.")
    ] = False,
) -> None:
    """Bring back the live pair before, model and index together, and the alias champion with it.

    Exit codes: 0 done, 1 it failed, 2 there is nothing to roll back to.
    """
    try:
        environment.apply()
        # Before the level is set: ZenML sets its own when it is imported.
        importlib.import_module("zenml.client")
        logging.getLogger("zenml").setLevel(logging.WARNING)
        from pipelines import rolling_back

        if registry_only:
            rolling_back.registry(name, reason, dry_run)
        else:
            rolling_back.pair(name, reason, to, live, dry_run)
    except LlaraError as error:
        logs.say(f"llara: {error}", "ERROR")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        logs.say("llara: interrupted; the same command finishes what was begun", "ERROR")
        sys.exit(1)


if __name__ == "__main__":
    app()
