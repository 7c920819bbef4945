"""``python -m pipelines.kubernetes_stack``, for ``make stack-kubernetes``: a cluster's secrets and stack.

Secrets go from the environment file straight into the ZenML server: they stand in no command line, no log and
no stack. A second time changes nothing but what has changed.
"""

from __future__ import annotations

import importlib
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from llara_core.errors import ConfigError, LlaraError
from llara_core.files import new_file
from llara_core.operations import logs
from pipelines import environment, kubernetes_addresses, kubernetes_store, kubernetes_values, stacks
from pipelines.kubernetes_values import ClusterValues

STACK = "llara-kubernetes"
STORE_SECRET = "llara-s3"  # noqa: S105 - a name
STEPS_SECRET = "llara-environment"  # noqa: S105 - named under `secrets:` in configs/kubernetes
LAUNCHER_SECRET = "llara-launcher"  # noqa: S105 - named by the step that starts runs from inside the cluster
SHELL_FILE = "kubernetes.env"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    values: Annotated[Path, typer.Option("--env", help="The environment file.")] = Path(
        "deploy/kubernetes.env"
    ),
) -> None:
    """Make the secrets and the stack llara-kubernetes in the ZenML server, and .local/kubernetes.env."""
    try:
        told = kubernetes_values.read(values)
        os.environ.update(told.open)
        if "ZENML_STORE_API_KEY" in told.secret:
            os.environ["ZENML_STORE_API_KEY"] = told.secret["ZENML_STORE_API_KEY"]
        environment.apply()
        # Before the level is set: ZenML sets its own when it is imported.
        importlib.import_module("zenml.client")
        logging.getLogger("zenml").setLevel(logging.ERROR)
        server = kubernetes_addresses.zenml_server(kubernetes_store.address())
        if not server.ok:
            raise ConfigError(f"ZenML server: {server.found}; {server.advice}")
        with kubernetes_store.readable_errors():
            changes = set_up(told)
        for change in changes:
            logs.say(change)
        logs.say(f"`source {write_shell_file(told)}`, then: llara doctor --stack {STACK}")
    except LlaraError as error:
        logs.say(f"llara: {error}", "ERROR")
        sys.exit(error.exit_code)


def set_up(told: ClusterValues) -> list[str]:
    """Make secrets and stack what the values say; returns what changed, in words.

    Args:
        told: values of the cluster; the environment must hold those that are open.

    Raises:
        ConfigError: the ZenML server refuses, or a component of the same name has another flavor.
    """
    from zenml.client import Client

    client, changes = Client(), []
    for name, values in wanted_secrets(told).items():
        changes.append(f"secret {name}: {_ensure_secret(client, name, values)}")
    tracker = {name: told.secret.get(name) for name in kubernetes_values.SECRET if name.startswith("MLFLOW")}
    with _in_environment(tracker):  # where `stacks` takes them from
        _, changed = stacks.register(described(told))
    return [*changes, f"stack {STACK}: {'made' if changed else 'is up to date'}"]


def wanted_secrets(told: ClusterValues) -> dict[str, dict[str, str]]:
    """Names and values of the ZenML secrets that stack and run configurations refer to.

    The tracker's is not among them: ``stacks`` makes it with the component.
    """
    secrets: dict[str, dict[str, str]] = {}
    # Never empty, so that a run configuration may name it whether or not there are keys.
    steps = {"AWS_ENDPOINT_URL": told.open["LLARA_S3_ENDPOINT"], "AWS_REGION": told.open["LLARA_S3_REGION"]}
    if "LLARA_S3_KEY" in told.secret:
        key, secret = told.secret["LLARA_S3_KEY"], told.secret["LLARA_S3_SECRET"]
        secrets[STORE_SECRET] = {"key": key, "secret": secret}
        steps |= {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    if "HF_TOKEN" in told.secret:
        steps["HF_TOKEN"] = told.secret["HF_TOKEN"]
    if "ZENML_STORE_API_KEY" in told.secret:  # configs/kubernetes/retraining.yaml
        secrets[LAUNCHER_SECRET] = {"ZENML_STORE_API_KEY": told.secret["ZENML_STORE_API_KEY"]}
    return {**secrets, STEPS_SECRET: steps}


def described(told: ClusterValues) -> dict[str, Any]:
    """The committed stack with the values filled in, the chosen image builder, and keys if there are any."""
    stack = stacks.read_stack(stacks.STACK_FOLDER / f"{STACK}.yaml", dict(told.open))
    components = stack["components"]
    if told.open["LLARA_IMAGE_BUILDER"] == "local":
        local = {
            "name": "llara-local-docker",
            "type": "image_builder",
            "flavor": "local",
            "configuration": {},
        }
        components["image_builder"] = [local]
    if "LLARA_S3_KEY" not in told.secret:
        for component in components["artifact_store"]:
            for key in ("key", "secret"):
                component["configuration"].pop(key)
    return stack


def write_shell_file(told: ClusterValues) -> Path:
    """Write ``.local/kubernetes.env``, to be sourced: what runs and the launcher read. It holds no secret."""
    target = environment.local_folder() / SHELL_FILE
    lines = [f"export {name}={shlex.quote(value)}" for name, value in told.open.items()]
    with new_file(target) as temporary:
        temporary.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return target


def _ensure_secret(client: Any, name: str, values: Mapping[str, str]) -> str:
    """Make a secret hold exactly these values; returns what was done."""
    if not any(one.name == name for one in client.list_secrets(name=name).items):
        client.create_secret(name, dict(values))
        return "made"
    present = client.get_secret(name).secret_values
    if present == values:
        return "is up to date"
    gone = sorted(present.keys() - values.keys())
    client.update_secret(name, add_or_update_values=dict(values), remove_values=gone)
    return "changed"


@contextmanager
def _in_environment(values: Mapping[str, str | None]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


if __name__ == "__main__":
    app()
