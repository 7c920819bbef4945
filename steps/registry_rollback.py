"""Taking a champion back: one call moves the alias to the version before, and marks the one that is left."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from llara_core.errors import ConfigError
from steps import registry


@dataclass(frozen=True)
class Rollback:
    """What a rollback did, or would do.

    Args:
        name: of the registered model.
        left: number of the version that is no longer champion.
        back: number of the one that is again.
        reason: why, as the version that was left says it.
        finished: one that was cut off was made whole; nothing else was done.
    """

    name: str
    left: str
    back: str
    reason: str
    finished: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def roll_back(name: str, reason: str, *, dry_run: bool = False) -> Rollback:
    """Make the version behind ``previous`` the champion again, and mark the present one as rolled back.

    The mark comes first, then the alias, by the intent of ``registry.move_champion``: killed in between, the
    same call finishes. ``previous`` stays where it is, so that calling twice never goes back further.

    Args:
        name: of the registered model.
        reason: for the mark, which keeps the gate from bringing the version back by itself.
        dry_run: change nothing.

    Raises:
        ConfigError: there is no champion, or nothing to go back to; says what to do.
    """
    import mlflow

    was_cut_off = not dry_run and registry.finish_move(name)
    champion, target = (registry.version_of(name, alias) for alias in (registry.CHAMPION, registry.PREVIOUS))
    if champion is None:
        raise ConfigError(f"{name}: no version has the alias champion, so there is nothing to roll back")
    if target is None:
        raise ConfigError(
            f"{name}: version {champion.version} is the first champion, no version has the alias previous; "
            "train and promote a better one, or set the alias champion to another version in MLflow"
        )
    if str(target.version) == str(champion.version):
        return _made_already(name, str(champion.version), was_cut_off)
    why = registry.rolled_back(name, str(target.version), target.tags.get("fingerprint", ""))
    if why is not None:
        raise ConfigError(
            f"{name}: the version before, {target.version}, cannot serve again: {why}; set the alias "
            "champion to a version of your choice in MLflow"
        )
    done = Rollback(name, str(champion.version), str(target.version), reason)
    if not dry_run:
        moment = datetime.now(timezone.utc).isoformat(timespec="seconds")
        mark = f"{moment}: {reason}"
        mlflow.MlflowClient().set_model_version_tag(name, done.left, registry.ROLLED_BACK, mark)
        registry.move_champion(name, done.back, None)
    return done


def follow(name: str, champion: str, left: str | None, mark: str) -> None:
    """Make a version champion because its pair serves again, and mark the one that was left.

    The pointer of the live store has moved already. Safe to repeat, and to be killed in.

    Args:
        name: of the registered model.
        champion: version that serves again; a mark of its own goes, since somebody wants it.
        left: version to be marked; None, or one that is gone: none.
        mark: time and reason.

    Raises:
        ConfigError: the registry has no such version any more; what serves is not touched.
    """
    import mlflow

    client = mlflow.MlflowClient()
    known = {str(one.version): one for one in registry.versions_of(name)}
    if champion not in known:
        numbers = ", ".join(sorted(known, key=int)) or "none"
        raise ConfigError(
            f"{name}: the pair of version {champion} serves, but the registry has no such version (it has: "
            f"{numbers}); go to another pair with `llara rollback --to GENERATION` (`llara live` lists them)"
        )
    if left in known:
        client.set_model_version_tag(name, str(left), registry.ROLLED_BACK, mark)
    if registry.ROLLED_BACK in known[champion].tags:
        client.delete_model_version_tag(name, champion, registry.ROLLED_BACK)
    registry.move_champion(name, champion, None)


def _made_already(name: str, champion: str, was_cut_off: bool) -> Rollback:
    """The rollback before this one, where it was cut off and is whole now.

    Raises:
        ConfigError: it was whole before: a second call would go nowhere.
    """
    marked = [one for one in registry.versions_of(name) if registry.ROLLED_BACK in one.tags]
    if was_cut_off and marked:
        last = max(marked, key=lambda one: one.tags[registry.ROLLED_BACK])
        return Rollback(name, str(last.version), champion, last.tags[registry.ROLLED_BACK], finished=True)
    raise ConfigError(
        f"{name}: version {champion} is both champion and previous, so it was rolled back to already; to go "
        "back further, set the alias champion to a version of your choice in MLflow"
    )
