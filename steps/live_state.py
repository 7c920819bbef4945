"""Where the live pair of a registered model lies, and how the registry follows it."""

from __future__ import annotations

from pathlib import Path

from llara_core.operations.live import LiveStore
from steps import tick_state
from steps.registry_rollback import follow


def store_of(name: str, told: str | None = None) -> LiveStore:
    """The live store of a registered model.

    Args:
        name: of the registered model.
        told: folder of the settings; None: ``$LLARA_LOCAL/live/<name>``.
    """
    return LiveStore(Path(told) if told else tick_state.local_state() / "live" / name)


def settle(store: LiveStore, name: str) -> str | None:
    """Tell the registry of a rollback that it does not know of; whoever reads its aliases calls this first.

    Args:
        store: the live store.
        name: of the registered model.

    Returns:
        What was told, in words; None where there was nothing to tell.

    Raises:
        ConfigError: the version that serves again is not in the registry any more.
        LiveError: the pointer is damaged.
    """
    owed = store.pointer().owed
    if owed is None:
        return None
    follow(name, owed.champion, owed.left, f"{owed.at}: {owed.reason}")
    store.settled(owed)
    words = f"version {owed.champion} is champion again"
    if owed.left is not None:
        words += f", version {owed.left} is marked"
    return words
