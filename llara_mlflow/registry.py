"""The entry point ``mlflow`` of the group ``llara.registries``: a registered version as a folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from llara_core.errors import ConfigError
from llara_core.model.registries import Source
from llara_core.network import answers
from llara_mlflow.cache import bundle_of, cached
from llara_mlflow.versions import SCHEME, find, rolled_back, without_secrets

logger = logging.getLogger(__name__)

TIMEOUT = 5.0  # seconds that a server has to take a connection; MLflow's client would try for minutes
_WHERE = "model registry"
_SQLITE = "sqlite:///"


def fetch(
    name: str, alias: str = "champion", version: str | None = None, tracking_uri: str | None = None
) -> Source:
    """Bring a registered version's bundle to this machine; see ``Retriever.from_registry``.

    Args:
        name: of the registered model.
        alias: which version, unless ``version`` says it; asked anew at every call.
        version: number of a version. One that is in the cache is found there also without the registry.
        tracking_uri: of the MLflow server or database; None: what ``MLFLOW_TRACKING_URI`` says.

    Raises:
        ConfigError: the registry does not answer, or has no such model, alias or version.
        ModelError: the version holds no bundle of ours, or a damaged one.
        DataError: the cache cannot be written.
    """
    import mlflow

    address = tracking_uri or mlflow.get_registry_uri()
    registry = without_secrets(address)
    reference = f"{SCHEME}{name}/{version}" if version is not None else f"{SCHEME}{name}@{alias}"
    away = _why_away(address)
    if away is not None:
        return _from_cache(reference, name, version, registry, away)
    client = mlflow.MlflowClient(tracking_uri, tracking_uri)
    found = find(reference, _WHERE, client)
    folder = bundle_of(found, client, registry)
    told = found.tags.get("fingerprint", "")
    _warn_of_rollback(name, str(found.version), told, client)
    by = alias if version is None else None
    return Source(folder, name, str(found.version), by, registry, told)


def _why_away(address: str) -> str | None:
    """Why a registry cannot be asked, found out within seconds and without making an empty one."""
    if address.startswith(_SQLITE):
        database = Path(address.removeprefix(_SQLITE))
        return None if database.is_file() else f"there is no database {database}"
    if address.startswith(("http://", "https://")) and not answers(address, TIMEOUT):
        return f"nothing answers at {without_secrets(address)}"
    return None


def _from_cache(reference: str, name: str, version: str | None, registry: str, away: str) -> Source:
    known = cached(registry, name)
    number = None if version is None else str(version).lstrip("0")
    if number in known:
        folder, record = known[number]
        logger.warning(
            "%s: %s; taking the copy of %s. Whether it was rolled back since is not known.",
            reference, away, record.fetched[:19],
        )  # fmt: skip
        return Source(folder, name, number, None, registry, record.fingerprint)
    raise ConfigError(f"{_WHERE}: {reference}: {away}; {_advice(known)}")


def _advice(known: dict[str, Any]) -> str:
    say = "say where the registry is: tracking_uri=…, or MLFLOW_TRACKING_URI in the environment"
    if not known:
        return f"{say}; the cache holds no version of it"
    numbers = sorted(known, key=int)
    return f"{say}. The cache holds version {', '.join(numbers)}: take one with version={numbers[-1]!r}"


def _warn_of_rollback(name: str, number: str, fingerprint: str, client: Any) -> None:
    why = rolled_back(name, number, fingerprint, client)
    if why is not None:
        logger.warning("%s%s/%s: %s; think twice before you use it", SCHEME, name, number, why)
