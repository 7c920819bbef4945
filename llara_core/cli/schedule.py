"""``llara schedule``: when retraining and indexing run by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

schedule_app = typer.Typer(
    help="Make the stack start pipelines at the times that configs/schedules/ says.", rich_markup_mode=None
)
Name = Annotated[str, typer.Argument(help="Name of the schedule: its file's, without .yaml.")]
Folder = Annotated[
    Path | None, typer.Option("--folder", help="Folder of the schedules; default: configs/schedules.")
]
Project = Annotated[
    Path | None, typer.Option("--project", help="The checkout; default: the folder here, or one above.")
]


@schedule_app.command()
def apply(folder: Folder = None, project: Project = None) -> None:
    """Make the stack's schedules what the files say; a second time changes nothing."""
    _call(["apply", *_folder(folder)], project)


@schedule_app.command("list")
def show(
    folder: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    project: Project = None,
) -> None:
    """Show what is wanted and applied, when it runs next, and how the last run ended."""
    _call(["list", *_folder(folder), *(["--json"] if as_json else [])], project)


@schedule_app.command()
def pause(name: Name, project: Project = None) -> None:
    """Let a schedule rest until `resume`; `apply` does not wake it."""
    _call(["pause", name], project)


@schedule_app.command()
def resume(name: Name, project: Project = None) -> None:
    """Let a paused schedule go on; what was due meanwhile is not made up for."""
    _call(["resume", name], project)


@schedule_app.command()
def delete(name: Name, project: Project = None) -> None:
    """Remove a schedule from the stack; the next `apply` brings it back unless its file is gone."""
    _call(["delete", name], project)


def _folder(folder: Path | None) -> list[str]:
    return [] if folder is None else ["--folder", str(folder.absolute())]


def _call(arguments: list[str], project: Path | None) -> None:
    from llara_core.cli.project import run_module

    if code := run_module("pipelines.schedules", arguments, project):
        raise typer.Exit(code)
