"""``python -m pipelines.schedules``: make the stack run what ``configs/schedules/`` says, and nothing else.

Stacks whose orchestrator schedules get a ZenML schedule (``schedules_zenml``); on the others, where ZenML
refuses, the user's crontab gets a block. ``llara schedule`` calls this. Source: issue 6, point 3.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from llara_core.errors import LlaraError
from llara_core.operations import schedules
from llara_core.operations.schedules_tick import only_one
from pipelines import environment, schedules_cron

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
FOLDER = environment.REPOSITORY / "configs" / "schedules"
Folder = Annotated[Path, typer.Option("--folder", help="Folder of the schedules' files.")]
Name = Annotated[str, typer.Argument(help="Name of the schedule: its file's, without .yaml.")]


@app.command()
def apply(folder: Folder = FOLDER) -> None:
    """Make the stack's schedules what the files say; a second time changes nothing."""
    wanted = schedules.read_wanted(folder)
    for name, settings in wanted.items():
        schedules_cron.check_config(name, settings)
    with _alone():
        by_cron = {name: one for name, one in wanted.items() if _scheduler(one.stack) == "cron"}
        by_zenml = {name: one for name, one in wanted.items() if name not in by_cron}
        changes = schedules_cron.apply(by_cron)
        if by_zenml or _store().remote():
            from pipelines import schedules_zenml

            changes += schedules_zenml.apply(by_zenml)
            _store().note_remote(sorted(by_zenml))
    for change in changes or ["nothing to change"]:
        typer.echo(change)
    for name, settings in wanted.items():
        for warning in schedules_cron.warnings(name, settings, name in by_zenml):
            typer.echo(warning, err=True)


@app.command("list")
def show(
    folder: Folder = FOLDER,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show what is wanted, what is applied, when it runs next, and how the last run ended."""
    wanted = schedules.read_wanted(folder)
    remote = {name: one for name, one in wanted.items() if _scheduler(one.stack) != "cron"}
    rows = schedules_cron.rows({name: one for name, one in wanted.items() if name not in remote})
    if remote or _store().remote():
        from pipelines import schedules_zenml

        rows += schedules_zenml.rows(remote)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    for row in sorted(rows, key=lambda one: str(one["name"])):
        typer.echo(_words(row))
    if not rows:
        typer.echo(f"no schedules; write one as {folder}/<name>.yaml")


@app.command()
def pause(name: Name) -> None:
    """Let a schedule rest until `resume`; `apply` does not wake it."""
    _turn(name, True)


@app.command()
def resume(name: Name) -> None:
    """Let a paused schedule go on; what was due meanwhile is not made up for."""
    _turn(name, False)


@app.command()
def delete(name: Name) -> None:
    """Remove a schedule from the stack; the next `apply` brings it back unless its file is gone."""
    with _alone():
        if name in _store().remote():
            from pipelines import schedules_zenml

            schedules_zenml.delete(name)
            _store().note_remote([one for one in _store().remote() if one != name])
        else:
            schedules_cron.delete(name)
    typer.echo(f"{name}: deleted from the stack")
    if (FOLDER / f"{name}.yaml").exists():
        typer.echo(f"its file stays, so the next `llara schedule apply` brings it back: {FOLDER / name}.yaml")


@app.command(hidden=True)
def tick(name: Name, local: Annotated[Path, typer.Option("--local")]) -> None:
    """Look at the clock, and run what is due; cron calls this."""
    raise typer.Exit(schedules_cron.tick(name, local))


def _turn(name: str, paused: bool) -> None:
    with _alone():
        if name in _store().remote():
            from pipelines import schedules_zenml

            changed = schedules_zenml.turn(name, paused)
        else:
            changed = schedules_cron.turn(name, paused)
    state = "paused" if paused else "goes on"
    typer.echo(f"{name}: {state}" if changed else f"{name}: {state} already")


class _Store(schedules.RecordStore):
    """Records of this machine, and the names that were given to orchestrators from here."""

    def remote(self) -> list[str]:
        """Names of schedules that an orchestrator keeps."""
        file = self.folder / "remote"
        return file.read_text(encoding="utf-8").split() if file.exists() else []

    def note_remote(self, names: list[str]) -> None:
        """Remember them, so that the last one can be removed when its file is gone."""
        if names != self.remote():
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "remote").write_text("\n".join([*names, ""]), encoding="utf-8")


def _store() -> _Store:
    return _Store(schedules_cron.store().folder)


def _scheduler(stack: str) -> str:
    """``cron`` or ``zenml``; only a stack that is not the local one needs ZenML to be asked."""
    if stack == "llara-local":
        return "cron"
    from pipelines import schedules_zenml

    return schedules_zenml.scheduler(stack)


def _alone() -> Any:
    """Hold the lock of all that changes schedules."""
    return _Alone(environment.local_folder() / "locks" / "schedules.lock")


class _Alone:
    def __init__(self, lock: Path) -> None:
        self._held = only_one(lock)

    def __enter__(self) -> None:
        if self._held.__enter__() is None:
            self._held.__exit__(None, None, None)
            raise LlaraError("another `llara schedule` is at work here; try again when it has ended")

    def __exit__(self, *error: object) -> None:
        self._held.__exit__(None, None, None)


def _words(row: dict[str, Any]) -> str:
    lines = [f"{row['name']}: {row['state']}", f"  {row['cron']}  {row['timezone']}, by {row['by']}"]
    if row["next"]:
        lines.append(f"  next: {row['next']}")
    if row["last"]:
        lines.append(f"  last: {row['last']}")
    return "\n".join([*lines, f"  runs: {row['command']}"])


def main() -> None:
    """Run; an error becomes one message and an exit code."""
    try:
        app()
    except LlaraError as error:
        typer.echo(f"llara: {error}", err=True)
        sys.exit(error.exit_code)
    except (OSError, subprocess.SubprocessError) as error:
        typer.echo(f"llara: failed: {type(error).__name__}: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
