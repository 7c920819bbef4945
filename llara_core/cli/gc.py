"""``llara gc``: delete what runs have left and nobody uses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def gc(
    apply: Annotated[bool, typer.Option("--apply", help="Delete; without it nothing is.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="List what stays, too, with the reason.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The list as JSON on stdout.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Default: configs/operations.yaml of the project.")
    ] = None,
    volumes: Annotated[
        list[Path] | None,
        typer.Option(
            "--volume",
            help="A mounted volume of a cluster, or several: what pods have left there goes by its age.",
        ),
    ] = None,
) -> None:
    """Delete old runs, versions, vectors and folders that nobody uses: a dry run unless told --apply.

    What an alias, the live pointer, a schedule or a running job uses stays, whatever its age.
    """
    from llara_core.cli.project import run_module

    arguments = [
        *(["--apply"] if apply else []),
        *(["--all"] if everything else []),
        *(["--json"] if as_json else []),
        *(["--config", str(config.absolute())] if config is not None else []),
        *(word for volume in volumes or () for word in ("--volume", str(volume.absolute()))),
    ]
    if code := run_module("pipelines.gc", arguments):
        raise typer.Exit(code)
