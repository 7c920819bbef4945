"""Import a committed stack into ZenML, as often as wanted: the second time changes nothing."""

from __future__ import annotations

import logging
import os
import string
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import yaml

from llara_core.errors import ConfigError
from llara_core.settings import holds_secret, nearest
from pipelines.environment import REPOSITORY, local_folder

logger = logging.getLogger(__name__)

STACK_FOLDER = REPOSITORY / ".zenml" / "stacks"
LOCAL_STACK = "llara-local"
# Stacks that need more than variables: what makes them.
_MADE_BY = {"llara-kubernetes": "make stack-kubernetes"}
EXPERIMENT = "llara"
_CREDENTIALS = {"tracking_username", "tracking_password", "tracking_token"}


def read_stack(path: Path, values: dict[str, str] | None = None) -> dict[str, Any]:
    """A stack file with its ``${VARIABLES}`` filled in.

    Args:
        path: file in the format of ``zenml stack export``.
        values: what to fill in; the environment by default.

    Raises:
        ConfigError: the file is missing, names a variable that is not set, or a variable holds a password.
    """
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in STACK_FOLDER.glob("*.yaml")))
        raise ConfigError(f"{path}: no such stack file; committed stacks: {known}")
    try:
        text = string.Template(path.read_text(encoding="utf-8")).substitute(values or os.environ)
    except KeyError as error:
        raise ConfigError(f"{path}: variable {error.args[0]} is not set; export it first") from None
    stack: dict[str, Any] = yaml.safe_load(text)
    for line in text.splitlines():
        if holds_secret(line):
            setting = line.split(":", 1)[0].strip()
            raise ConfigError(
                f"{path}: {setting}: holds a password or token, and ZenML stores stacks as they are; use a "
                "ZenML secret, {{name.key}}, or what the service reads from the environment (MLflow: "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD)"
            )
    return stack


def import_stack(path: Path, activate: bool = False) -> tuple[str, bool]:
    """Create or update the stack of a file and its components.

    Args:
        path: file in the format of ``zenml stack export``.
        activate: also make it the active stack; only for a ZenML state of our own.

    Returns:
        the id of the stack, and whether anything had to change.
    """
    return register(read_stack(path), activate)


def register(described: dict[str, Any], activate: bool = False) -> tuple[str, bool]:
    """Create or update a stack and its components.

    Args:
        described: as ``read_stack`` gives it.
        activate: also make it the active stack; only for a ZenML state of our own.

    Returns:
        the id of the stack, and whether anything had to change.

    Raises:
        ConfigError: a component of the same name exists with another flavor.
    """
    from zenml.client import Client
    from zenml.enums import StackComponentType

    client = Client()
    ids, changed = {}, False
    for kind, components in described["components"].items():
        component_type = StackComponentType(kind)
        for component in components:
            identity, new = _ensure_component(client, component_type, component)
            ids.setdefault(component_type, []).append(identity)
            changed |= new
    name = described["stack_name"]
    found = client.list_stacks(name=name, hydrate=True).items
    if not found:
        stack, changed = client.create_stack(name=name, components=ids), True
    else:
        stack = found[0]
        present = {kind: [one.id for one in members] for kind, members in stack.components.items() if members}
        if present != ids:
            stack, changed = client.update_stack(stack.id, component_updates=ids), True
    if activate and client.active_stack_model.id != stack.id:
        client.activate_stack(stack.id)
    return str(stack.id), changed


def stack_id(name: str) -> str:
    """Id of a registered stack; a committed one that is not registered yet is imported.

    Raises:
        ConfigError: there is no such stack; names the nearest.
    """
    from zenml.client import Client

    if name == LOCAL_STACK:
        return ensure_local_stack()
    known = {stack.name: str(stack.id) for stack in Client().list_stacks(size=1000).items}
    if name in known:
        return known[name]
    if name in _MADE_BY:
        raise ConfigError(f"stack {name!r} is not in this ZenML server yet; `{_MADE_BY[name]}` puts it there")
    file = STACK_FOLDER / f"{name}.yaml"
    if file.is_file():
        return import_stack(file)[0]
    committed = [path.stem for path in STACK_FOLDER.glob("*.yaml")]
    raise ConfigError(f"no stack is called {name!r}{nearest(name, sorted({*known, *committed}))}")


def ensure_local_stack() -> str:
    """Import ``llara-local`` and make its MLflow experiment; returns the id of the stack.

    The stack becomes the active one only in the ZenML state of this checkout, never in the user's.
    """
    private = Path(os.environ["ZENML_CONFIG_PATH"]).resolve().is_relative_to(local_folder())
    identity, changed = import_stack(STACK_FOLDER / f"{LOCAL_STACK}.yaml", activate=private)
    logger.info("Stack %s %s.", LOCAL_STACK, "imported" if changed else "is up to date")
    ensure_experiment(os.environ["MLFLOW_TRACKING_URI"], local_folder() / "mlflow" / "artifacts")
    return identity


def ensure_experiment(tracking_uri: str, artifacts: Path) -> None:
    """Make the experiment, with its files in a folder of ours.

    With a database for a store and no server, MLflow would put files below the working directory.
    """
    import mlflow

    if not urlparse(tracking_uri).scheme.startswith("sqlite"):
        return
    Path(tracking_uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    client = mlflow.MlflowClient(tracking_uri=tracking_uri)
    if client.get_experiment_by_name(EXPERIMENT) is None:
        artifacts.mkdir(parents=True, exist_ok=True)
        client.create_experiment(EXPERIMENT, artifact_location=artifacts.as_uri())


def _with_credentials(client: Any, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """An MLflow server's credentials, from the environment into a ZenML secret that the component names.

    ZenML refuses a server without any, so one that asks for none gets a token that means nothing.
    """
    if not str(wanted.get("tracking_uri", "")).startswith("http") or wanted.keys() & _CREDENTIALS:
        return wanted
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{word}") for word in ("USERNAME", "PASSWORD"))
    if user and password:
        values = {"tracking_username": user, "tracking_password": password}
    else:
        values = {"tracking_token": os.environ.get("MLFLOW_TRACKING_TOKEN") or "none"}
    secret = f"{name}-mlflow"
    if any(one.name == secret for one in client.list_secrets(name=secret).items):
        client.update_secret(secret, add_or_update_values=values)
    else:
        client.create_secret(secret, values)
    return {**wanted, **{key: f"{{{{{secret}.{key}}}}}" for key in values}}


def _ensure_component(client: Any, kind: Any, described: dict[str, Any]) -> tuple[Any, bool]:
    name, wanted = described["name"], described["configuration"]
    if (kind.value, described["flavor"]) == ("experiment_tracker", "mlflow"):
        wanted = _with_credentials(client, name, wanted)
    found = client.list_stack_components(type=kind, name=name, hydrate=True).items
    if not found:
        created = client.create_stack_component(
            name=name, flavor=described["flavor"], component_type=kind, configuration=wanted
        )
        return created.id, True
    component = found[0]
    if component.flavor_name != described["flavor"]:
        raise ConfigError(
            f"stack component {name!r} ({kind.value}) exists with flavor {component.flavor_name!r}, "
            f"the stack file wants {described['flavor']!r}; delete or rename the registered one"
        )
    if all(component.configuration.get(key) == value for key, value in wanted.items()):
        return component.id, False
    client.update_stack_component(component.id, kind, configuration=wanted)
    return component.id, True
