"""What ``llara rollback`` does: the pointer of the live pair first, then the alias that follows it."""

from __future__ import annotations

import typer

from llara_core.errors import InputError, LlaraError
from llara_core.operations.live import LiveError, LiveStore, Pair
from llara_core.operations.live_pointer import Pointer
from steps.alerting import Alert, alert
from steps.live_state import settle, store_of
from steps.registry_rollback import roll_back


class NothingToRollBackError(InputError):
    """There is no pair before, or not the one that was named."""


def pair(name: str, reason: str, to: str | None, live: str | None, dry_run: bool) -> None:
    """Let the pair before serve again; where nothing is live, move the alias alone.

    Search is right again after one rename, whether the registry answers or not. What the registry could not
    be told, the same command tells it later.

    Args:
        name: of the registered model.
        reason: for history and mark.
        to: a generation; None: the pair before.
        live: folder of the live store; None: the default.
        dry_run: say what would change.

    Raises:
        NothingToRollBackError: there is no such pair.
        LlaraError: the pair is back, but the registry cannot be told.
    """
    store = store_of(name, live)
    if to is None:
        pointer = store.pointer()
        if pointer.current is None:
            registry(name, reason, dry_run)
            return
        if pointer.owed is not None and not dry_run:
            told = _settle(store, name)
            typer.echo(f"{name}: a rollback that was cut off is finished: {told}")
            return
    try:
        target = store.target(to)
    except LiveError as error:
        raise NothingToRollBackError(str(error)) from None
    if dry_run:
        typer.echo(f"{name}: {_words(target)} would serve{_instead(store)}; nothing has changed")
        return
    pointer = store.rollback(reason, to)
    typer.echo(f"{name}: {_words(target)} serves again, model and index together")
    _tell(name, reason, target, pointer)
    if pointer.owed is not None:
        typer.echo(f"{name}: {_settle(store, name)}")


def registry(name: str, reason: str, dry_run: bool) -> None:
    """Move the alias champion back to the version before, and mark the one that is left.

    Raises:
        ConfigError: there is no champion, or nothing to go back to.
    """
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


def _settle(store: LiveStore, name: str) -> str:
    """Tell the registry.

    Raises:
        LlaraError: it does not answer; what serves is right all the same.
    """
    from mlflow.exceptions import MlflowException

    try:
        return settle(store, name) or "the registry knows"
    except (MlflowException, OSError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise LlaraError(
            f"the pair is back and serves, but the registry cannot be told ({first_line}); run "
            "`llara rollback` again when it answers, which finishes this one"
        ) from None


def _tell(name: str, reason: str, target: Pair, pointer: Pointer) -> None:
    left = str(pointer.history[-1]["from"])
    facts = {"model": name, "serves": target.name, "left": left, "next command": "llara live"}
    alert(Alert("rollback", f"{name}: version {target.version} serves again", reason, "warning", facts))


def _words(one: Pair) -> str:
    return f"version {one.version} with {one.documents} documents ({one.name})"


def _instead(store: LiveStore) -> str:
    try:
        current = store.current()
    except LiveError:  # the very reason to go back to a generation by name
        return ""
    return "" if current is None else f" in place of {_words(current)}"
