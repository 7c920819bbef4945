"""Reading the MLflow model registry: models, aliases, versions, and what their tags say."""

from __future__ import annotations

import re
from typing import Any

from llara_core.config import REGISTRY
from llara_core.errors import ConfigError
from llara_core.model.registries import REFERENCE
from llara_core.settings import nearest

ROLLED_BACK = "llara.rolled_back"  # tag of a version: why it was taken back, so that nothing brings it back
SCHEME = REGISTRY  # how a reference begins: models:/NAME@ALIAS or models:/NAME/VERSION
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def client_of(client: Any | None = None) -> Any:
    """The client that is given, or one for what MLflow's environment says."""
    import mlflow

    return mlflow.MlflowClient() if client is None else client


def version_of(name: str, alias: str) -> Any | None:
    """The version behind an alias, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return client_of().get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in _ABSENT:
            return None
        raise


def versions_of(name: str, client: Any | None = None) -> list[Any]:
    """All versions of a registered model, newest first; [] where there is none."""
    found = client_of(client).search_model_versions(f"name = '{name}'")
    return sorted(found, key=lambda one: int(one.version), reverse=True)


def find(reference: str, where: str = "model.base", client: Any | None = None) -> Any:
    """The version that ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION`` means at this moment.

    Args:
        reference: what the user wrote.
        where: the setting that holds it, for messages.
        client: of the registry; None: the one that MLflow's environment says.

    Raises:
        ConfigError: the reference is neither, the registry cannot be reached, or it has no such model,
            alias or version; names those that it has.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise ConfigError(
            f"{where}: {reference!r}: expected {SCHEME}NAME@ALIAS or {SCHEME}NAME/VERSION, "
            f"e.g. {SCHEME}llara-adapted@champion"
        )
    try:
        client = client_of(client)
        model = _model(client, match["name"])
        if model is None:
            raise _no_model(reference, where, match["name"], client)
        versions = {str(one.version): one for one in versions_of(match["name"], client)}
    except (MlflowException, OSError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        registry = mlflow.get_tracking_uri() if client is None else client.tracking_uri
        raise ConfigError(
            f"{where}: {reference}: the registry at {without_secrets(registry)} cannot be asked "
            f"({first_line}); set MLFLOW_TRACKING_URI to one that answers"
        ) from error
    # MLflow gives the numbers of aliases as text or as integers, by the kind of its store.
    aliases = {alias: str(number) for alias, number in model.aliases.items()}
    number = match["number"] and str(int(match["number"]))
    found = versions.get(number or aliases.get(match["alias"], ""))
    if found is None:
        raise _no_version(reference, where, match, aliases, sorted(versions, key=int))
    return found


def _model(client: Any, name: str) -> Any | None:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code in _ABSENT:
            return None
        raise


def _no_model(reference: str, where: str, name: str, client: Any) -> ConfigError:
    names: list[str] = []
    token = None
    while token != "":  # a page holds a hundred
        page = client.search_registered_models(page_token=token)
        names += [one.name for one in page]
        token = page.token or ""
    if not names:
        known = "it has none; run a pipeline that registers it"
    else:
        close = nearest(name, names)
        known = f"it has: {', '.join(sorted(names))}{close if 'did you mean' in close else ''}"
    return ConfigError(f"{where}: {reference}: the registry has no model {name!r} ({known})")


def _no_version(
    reference: str, where: str, match: re.Match[str], aliases: dict[str, str], numbers: list[str]
) -> ConfigError:
    known = ", ".join(f"@{alias} (version {number})" for alias, number in sorted(aliases.items()))
    close = "" if match["number"] else nearest(match["alias"], list(aliases))
    return ConfigError(
        f"{where}: {reference}: {match['name']} has no such {'version' if match['number'] else 'alias'}; "
        f"aliases: {known or 'none'}; versions: {', '.join(numbers) or 'none'}"
        f"{close if 'did you mean' in close else ''}"
    )


def rolled_back(name: str, number: str, fingerprint: str, client: Any | None = None) -> str | None:
    """Why a version, or another with the same weights, was taken back; None where none was.

    Args:
        name: of the registered model.
        number: of the version.
        fingerprint: of its bundle, as its tag says.
        client: of the registry; None: the one that MLflow's environment says.
    """
    for one in versions_of(name, client):
        reason = one.tags.get(ROLLED_BACK)
        same = bool(fingerprint) and one.tags.get("fingerprint") == fingerprint
        if reason is not None and (str(one.version) == str(number) or same):
            which = "it" if str(one.version) == str(number) else f"version {one.version}, the same model,"
            return f"{which} was rolled back ({reason})"
    return None


def without_secrets(uri: str) -> str:
    """A registry's address as it may be shown: without user and password."""
    return re.sub(r"(?<=://)[^/]*@", "", uri)
