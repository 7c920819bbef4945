"""Which registered version may serve: the champion, unless it was taken back."""

from __future__ import annotations

from typing import Any

from llara_core.errors import ConfigError
from steps import registry


def servable(name: str) -> Any:
    """The version that the live index is made with.

    The champion; where it was rolled back, the one before it; where that was too, the newest that the gate
    has promoted and nobody has taken back. A move of the champion that was cut off is finished first.

    Args:
        name: of the registered model.

    Returns:
        The version, as MLflow gives it.

    Raises:
        ConfigError: there is no champion, or every version that was promoted was rolled back.
    """
    registry.finish_move(name)
    champion = registry.version_of(name, registry.CHAMPION)
    if champion is None:
        raise ConfigError(
            f"{registry.SCHEME}{name}@{registry.CHAMPION}: there is no champion to index with; train "
            "one first: make run"
        )
    previous = registry.version_of(name, registry.PREVIOUS)
    promoted = [one for one in registry.versions_of(name) if one.tags.get("promoted") == "true"]
    candidates = [champion, *([] if previous is None else [previous]), *promoted]
    for one in candidates:
        if registry.rolled_back(name, str(one.version), one.tags.get("fingerprint", "")) is None:
            return one
    numbers = ", ".join(sorted({str(one.version) for one in candidates}, key=int))
    raise ConfigError(
        f"{registry.SCHEME}{name}: every promoted version ({numbers}) was rolled back; train another, or "
        f"take the tag {registry.ROLLED_BACK} off the one that shall serve"
    )
