"""Model registries, of which the library knows none: packages that do say so by an entry point.

The group ``llara.registries`` holds, by the name of a kind of registry, a function

    fetch(name: str, alias: str, version: str | None, tracking_uri: str | None) -> Source

which finds a registered version, brings its bundle to this machine whole and verified, and tells what it
found. ``llara_mlflow``, which comes with llara, is the one for MLflow; another registry needs a package with
such a function and an entry point, and nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from llara_core.config import REGISTRY
from llara_core.errors import ConfigError, MissingDependencyError
from llara_core.settings import nearest

GROUP = "llara.registries"
REFERENCE = re.compile(rf"{REGISTRY}(?P<name>[^/@#]+)(?:@(?P<alias>[^/@#]+)|/(?P<number>[0-9]+))")


@dataclass(frozen=True)
class Source:
    """Where a retriever came from.

    Args:
        folder: its bundle on this machine; None: it was never on a disk.
        name: of the registered model; None: it is of no registry, and so are the rest.
        version: its number.
        alias: by which it was asked for; None: by its number.
        registry: where that registry is, without secrets.
        fingerprint: of the bundle, as the registry says it; empty: it does not.
    """

    folder: Path | None
    name: str | None = None
    version: str | None = None
    alias: str | None = None
    registry: str | None = None
    fingerprint: str = ""

    def __str__(self) -> str:
        """One line for people, e.g. ``models:/llara-retriever/3 (champion)``."""
        if self.name is None:
            return "memory" if self.folder is None else str(self.folder)
        return f"{REGISTRY}{self.name}/{self.version}" + (f" ({self.alias})" if self.alias else "")


Fetch = Callable[[str, str, "str | None", "str | None"], Source]


def fetch(
    name: str, *, alias: str, version: str | None, tracking_uri: str | None, registry: str = "mlflow"
) -> Source:
    """Bring a registered model to this machine.

    Args:
        name: of the registered model.
        alias: which version, unless ``version`` says it.
        version: number of a version.
        tracking_uri: where the registry is; None: what its own environment variables say.
        registry: its kind, the name of an entry point.

    Raises:
        ConfigError: no such kind of registry is known; or what the registry's function raises.
        MissingDependencyError: the package of that registry, or one that it needs, is not installed.
    """
    known = {point.name: point for point in entry_points(group=GROUP)}
    if registry not in known:
        raise _unknown(registry, known)
    try:
        function: Fetch = known[registry].load()
    except ImportError as error:
        raise _lacking(registry, error) from error
    try:
        return function(name, alias, version, tracking_uri)
    except ModuleNotFoundError as error:
        raise _lacking(registry, error) from error


def _unknown(registry: str, known: dict[str, EntryPoint]) -> ConfigError | MissingDependencyError:
    if not known:
        return MissingDependencyError(
            f"no model registry is known here (no entry point in the group {GROUP}); install llara itself, "
            "with its extra: pip install 'llara[mlflow]'"
        )
    return ConfigError(f"no kind of registry is called {registry!r}{nearest(registry, list(known))}")


def _lacking(registry: str, error: ImportError) -> MissingDependencyError:
    return MissingDependencyError(
        f"the registry {registry!r} needs a package that is not installed ({error}): "
        f"pip install 'llara[{registry}]'"
    )
