"""``python -m pipelines.gc``, which ``llara gc`` calls: what runs have left, and what of it nobody needs.

Without ``--apply`` nothing is deleted. Source: issue 6, point 6.
"""

from __future__ import annotations

import importlib
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from llara_core.errors import DataError, LlaraError
from llara_core.operations import logs
from llara_core.operations.retention import Item, Use, readable, remove, summary
from llara_core.operations.retention_files import local_items, still_used
from llara_core.operations.retention_use import (
    POINTER,
    References,
    live_pairs,
    locked,
    open_files,
    references,
    yaml_files_named,
)
from llara_core.operations_settings import OperationsSettings, RetentionSettings
from pipelines import environment
from pipelines.gc_volume import VolumePlan

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
SETTINGS = environment.REPOSITORY / "configs" / "operations.yaml"
CONFIGURATIONS = environment.REPOSITORY / "configs"
SCHEDULES = environment.REPOSITORY / "configs" / "schedules"


@app.command()
def main(
    apply: Annotated[bool, typer.Option("--apply", help="Delete; without it nothing is.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="List what stays, too, with the reason.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The list as JSON on stdout.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Default: configs/operations.yaml.")
    ] = None,
    volumes: Annotated[
        list[Path] | None,
        typer.Option("--volume", help="Mounted volumes of a cluster, instead of this state."),
    ] = None,
) -> None:
    """Delete what runs have left and nobody uses: a dry run unless told otherwise."""
    try:
        settings = OperationsSettings.load(SETTINGS) if config is None else _given(config)
        plan = _plan(settings.retention, volumes or [])
        failed = collect(plan, apply=apply, everything=everything, as_json=as_json)
    except LlaraError as error:
        logs.say(f"llara: {error}", "ERROR")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        logs.say("llara: interrupted; what was deleted is gone, nothing is half there", "ERROR")
        sys.exit(1)
    sys.exit(1 if failed else 0)


def _plan(settings: RetentionSettings, volumes: list[Path]) -> Plan | VolumePlan:
    if volumes:
        return VolumePlan(settings, volumes, time.time())
    environment.apply()
    from pipelines import quiet

    quiet.before_imports()
    # Imported first, since it sets its own level; it would tell of every artifact on stdout.
    importlib.import_module("zenml.client")
    logging.getLogger("zenml").setLevel(logging.WARNING)
    return Plan(settings, environment.local_folder(), time.time())


def collect(plan: Plan | VolumePlan, *, apply: bool, everything: bool, as_json: bool) -> int:
    """Show the list, and delete what goes if told to; returns how many could not be deleted."""
    going = [item for item in plan.items if item.keep is None]
    outcome: dict[tuple[str, str, str], str | None] = {}  # why it stays after all
    failed = 0
    for item in going if apply else ():
        try:
            outcome[_identity(item)] = plan.delete(item)
        except LlaraError as error:
            failed += 1
            outcome[_identity(item)] = str(error)
            logs.say(f"llara: {error}", "ERROR")
    items = [replace(one, keep=one.keep or outcome.get(_identity(one))) for one in plan.items]
    if as_json:
        rows = [{**one.to_dict(), "deleted": apply and one.keep is None} for one in items]
        typer.echo(json.dumps({"applied": apply, "running": plan.use.running, "items": rows}, indent=1))
    else:
        _show(items, plan, apply, everything)
    return failed


def _identity(item: Item) -> tuple[str, str, str]:
    return item.kind, item.name, item.key or str(item.path)


class Plan:
    """Everything that could go, with the reason it stays, as of one moment.

    Args:
        settings: ages and numbers.
        local: folder of the local state.
        now: seconds since 1970.
    """

    def __init__(self, settings: RetentionSettings, local: Path, now: float) -> None:
        import mlflow

        from pipelines.stacks import EXPERIMENT
        from steps import retention_mlflow, retention_zenml

        self.local = local
        self._zenml, self._mlflow = retention_zenml, retention_mlflow
        self.client = mlflow.MlflowClient()
        unfinished = retention_zenml.unfinished()
        referred = references(_configurations())
        needed, fingerprints = _live(local)
        registry = retention_mlflow.Registry(self.client, EXPERIMENT, needed, referred)
        fingerprints |= registry.fingerprints()
        running = _running(unfinished, local)
        self.use = Use(_paths(local, referred), fingerprints, registry.needed, running)
        versions = registry.version_items(settings, now)
        going = {item.name for item in versions if item.keep is None}
        logged = registry.logged_items(going, settings, running, now)
        tracked = registry.run_items(going, settings, unfinished, now)
        runs = retention_zenml.runs(settings, registry.kept_run_names(tracked), running, now)
        gone = {item.key for item in runs if item.keep is None}
        artifacts = retention_zenml.artifacts(gone, settings, self.use, now)
        files = local_items(local, settings, self.use, now)
        # In the order in which they are deleted: what refers to something goes before it.
        self.items: list[Item] = [*runs, *artifacts, *versions, *logged, *tracked, *files]

    def delete(self, item: Item) -> str | None:
        """Delete one item if nobody has begun to use it; returns why it stays, or None.

        Raises:
            LlaraError: it cannot be deleted.
        """
        deleters: dict[str, Callable[[Item], str | None]] = {
            self._zenml.RUN: self._zenml.delete_run,
            self._zenml.ARTIFACT: self._zenml.delete_artifact,
            self._mlflow.VERSION: self._delete_version,
            self._mlflow.LOGGED: lambda one: self._mlflow.delete_logged(self.client, one),
            self._mlflow.RUN: lambda one: self._mlflow.delete_run(self.client, one),
        }
        return deleters.get(item.kind, self._delete_files)(item)

    @property
    def on_server(self) -> bool:
        """Whether MLflow's runs can only be marked from here."""
        return self._mlflow.server(self.client)

    def _delete_version(self, item: Item) -> str | None:
        if words := _live(self.local)[0].get(item.name):
            return words
        return self._mlflow.delete_version(self.client, item)

    def _delete_files(self, item: Item) -> str | None:
        running = _running(self._zenml.unfinished(), self.local)
        return remove(item, lambda one: still_used(one, self._use_now(running)))

    def _use_now(self, running: str | None) -> Use:
        """What is in use at this moment; links and configurations hardly change while a gc runs."""
        return replace(self.use, paths={**self.use.paths, **open_files(self.local)}, running=running)


def _running(unfinished: list[str], local: Path) -> str | None:
    """What is under way, in words: a run of ZenML, or whoever holds one of our locks; None: nothing."""
    if unfinished:
        return f"{unfinished[0]} is under way"
    folder = local / "locks"
    opened = open_files(folder)
    for place in sorted(folder.glob("*")):
        if place.resolve() in opened or (place.is_file() and locked(place)):
            return f"the lock {place.name} is held"
    return None


def _given(config: Path) -> OperationsSettings:
    from llara_core.settings import load_yaml

    return OperationsSettings.parse(load_yaml(config), str(config))


def _configurations() -> list[Path]:
    """Configurations of schedules: those of this checkout, and those that the user's crontab names."""
    found = sorted(SCHEDULES.glob("**/*.y*ml"))
    try:
        done = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=False, timeout=60)  # noqa: S607
    except (OSError, subprocess.TimeoutExpired):  # no cron here
        return found
    return [*found, *yaml_files_named(done.stdout, environment.REPOSITORY)]


def _paths(local: Path, referred: References) -> dict[Path, str]:
    """Files and folders in use below the local state, to the words."""
    found = open_files(local)
    for link in (local / "champions").glob("*/*"):
        if link.is_symlink():
            found[link.resolve()] = "the command that a run has printed searches it"
    for path in referred.paths:
        # `live`, `live/llara-retriever` or `vectors` name a place where things come and go, not a thing.
        if (
            path.is_relative_to(local)
            and len(path.relative_to(local).parts) > 1
            and path.parent.name != "live"
        ):
            found[path] = "a schedule uses it"
    return found


def _live(local: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Versions and fingerprints of the pairs that serve, and of those before them, to the words.

    Raises:
        DataError: a pointer cannot be read, so that nobody can tell which version serves.
    """
    versions, fingerprints = {}, {}
    for store in _stores(local):
        pairs = live_pairs(store)
        if pairs is None:
            raise DataError(
                "the live pointer cannot be read, so what serves is not known; nothing was deleted. "
                "Mend it, then run `llara gc` again",
                file=store / POINTER,
            )
        for pair in pairs:
            if pair.get("version"):
                number = str(pair["version"]).rsplit("/", 1)[-1]
                versions[f"{store.name}/{number}"] = "the live pointer names it"
            if pair.get("fingerprint"):
                fingerprints[str(pair["fingerprint"])] = "of the live pair"
    return versions, fingerprints


def _stores(local: Path) -> list[Path]:
    """Live stores: those of the local state, and folders elsewhere that a configuration names."""
    named = references(sorted(CONFIGURATIONS.glob("**/*.y*ml"))).paths
    folders = [one for one in (local / "live", *named) if one.is_dir() and one != one.parent]
    candidates = {one.resolve() for folder in folders for one in (folder, *folder.iterdir())}
    return sorted(one for one in candidates if (one / POINTER).is_file())


def _show(items: list[Item], plan: Plan | VolumePlan, applied: bool, everything: bool) -> None:
    verb = "deleted" if applied else "would delete"
    for item in items:
        if item.keep is None:
            typer.echo(f"{verb}  {item.kind:<24} {readable(item.size):>9}  {item.name}")
        elif everything:
            typer.echo(f"keep     {item.kind:<24} {readable(item.size):>9}  {item.name}: {item.keep}")
    for row in summary(items):
        typer.echo(
            f"{row['kind']}: {verb} {row['delete']} ({readable(row['delete_bytes'])}), "
            f"keep {row['keep']} ({readable(row['keep_bytes'])})"
        )
    total = sum(item.size for item in items if item.keep is None)
    typer.echo(f"{'Freed' if applied else 'Would free'} {readable(total)}.")
    if plan.use.running:
        typer.echo(f"{plan.use.running}: its runs, artifacts, work folders and checkpoints stay.")
    if applied and plan.on_server:
        typer.echo("MLflow runs are only marked as deleted; `mlflow gc` on the server frees their space.")
    elif not applied:
        typer.echo("Nothing was deleted; the same with --apply does it.")


if __name__ == "__main__":
    app()
