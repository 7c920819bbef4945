"""Where the local state lies, for commands that only read it."""

from __future__ import annotations

import os
from pathlib import Path

from llara_core.errors import ConfigError


def local_state(given: Path | None) -> Path:
    """The folder of the local state: what is given, ``$LLARA_LOCAL``, or ``.local`` of the checkout.

    Args:
        given: what ``--local`` said.

    Raises:
        ConfigError: neither option nor environment nor a checkout tells it.
    """
    if given is not None:
        return given.expanduser()
    told = os.environ.get("LLARA_LOCAL")
    if told:
        return Path(told).expanduser()
    from llara_core.cli.project import find_project

    try:
        return find_project() / ".local"
    except ConfigError as error:
        raise ConfigError(f"{error}; or say where the local state lies: --local FOLDER") from None
