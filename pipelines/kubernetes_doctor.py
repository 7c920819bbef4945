"""``python -m pipelines.kubernetes_doctor``, for ``llara doctor --stack``: is all there that a run will need?

It looks at the ZenML server, the stack and its secrets, the cluster, and every address of the stack; it
changes nothing, and waits a few seconds for each at most.
"""

from __future__ import annotations

import importlib
import logging
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from llara_core.doctor import Check, lines, verdict
from llara_core.errors import ConfigError, LlaraError
from llara_core.operations import logs
from llara_core.settings import load_yaml
from pipelines import environment

SMALLEST = Path("configs/kubernetes/gpu-1.yaml")
_REFERENCE = re.compile(r"\{\{\s*(?P<secret>[^{}.\s]+)\.(?P<key>[^{}\s]+)\s*\}\}")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Configs = Annotated[
    list[Path] | None, typer.Option("--config", "-c", help=f"What will run; default: {SMALLEST}.")
]


@app.command()
def main(
    stack: Annotated[str, typer.Option("--stack", "-s", help="ZenML stack.")] = "llara-kubernetes",
    config: Configs = None,
) -> None:
    """Check a stack on Kubernetes, and say what to do about each problem; exits 1 if there is one."""
    try:
        environment.apply()
        # Before the level is set: ZenML sets its own when it is imported.
        importlib.import_module("zenml.client")
        logging.getLogger("zenml").setLevel(logging.ERROR)
        checks = list(examine(stack, config or [environment.REPOSITORY / SMALLEST]))
    except LlaraError as error:
        logs.say(f"llara: {error}", "ERROR")
        sys.exit(error.exit_code)
    for line in lines(checks):
        typer.echo(line)
    if failed := verdict(checks):
        typer.echo(failed, err=True)
        sys.exit(1)
    typer.echo("all is well; the first run: python -m pipelines training -c CONFIG -s STACK")


def examine(name: str, configs: list[Path]) -> Iterator[Check]:
    """Every check of a stack.

    Args:
        name: of the stack.
        configs: run configurations that are to run on it.

    Raises:
        ConfigError: the ZenML server does not let us in, there is no such stack, or its orchestrator is
            another than Kubernetes'.
    """
    from zenml.client import Client

    from pipelines import kubernetes_addresses as addresses
    from pipelines import kubernetes_store, stacks

    # Asked before ZenML asks, which tries for the better part of a minute and then shows where it stood.
    server = addresses.zenml_server(kubernetes_store.address())
    yield server
    values: list[Mapping[str, Any]] = []
    for config in configs:
        yield _profile(config, values)
    if not server.ok and server.found.startswith("http"):
        return
    with kubernetes_store.readable_errors():
        client = Client()
        stack = client.get_stack(stacks.stack_id(name))
    components = {kind.value: members[0] for kind, members in stack.components.items() if members}
    orchestrator = components["orchestrator"]
    if orchestrator.flavor_name != "kubernetes":
        raise ConfigError(
            f"stack {name!r} orchestrates by {orchestrator.flavor_name!r}, not on Kubernetes; `llara doctor` "
            "without --stack looks at this machine"
        )
    secrets = _Secrets(client)
    wanted = {name for one in values for name in one.get("secrets") or []}
    yield from secrets.look({kind: dict(one.configuration) for kind, one in components.items()}, wanted)
    yield from _cluster(stack, orchestrator, components, values)
    yield from _services(components, secrets)


def _profile(path: Path, values: list[Mapping[str, Any]]) -> Check:
    from pipelines import kubernetes_check

    try:
        found = load_yaml(path)
        kubernetes_check.check(found, path)
    except LlaraError as error:
        return Check("configuration", False, str(error), "mend the file")
    values.append(found)
    return Check("configuration", True, f"{path.name}: what it says to Kubernetes can work")


class _Secrets:
    """Secrets of the ZenML server, and what components are once they are filled in."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._held: dict[str, Mapping[str, str]] = {}

    def look(self, components: Mapping[str, Any], named: set[str]) -> Iterator[Check]:
        """One check for each secret that a component or a run configuration names."""
        keys: dict[str, set[str]] = {str(name): set() for name in named}
        for configuration in components.values():
            for found in _REFERENCE.finditer(str(configuration)):
                keys.setdefault(found["secret"], set()).add(found["key"])
        advice = "make stack-kubernetes puts it there from deploy/kubernetes.env"
        for name in sorted(keys):
            held = self._values(name)
            if held is None:
                yield Check("secret", False, f"{name} does not exist, or you may not read it", advice)
            elif missing := sorted(key for key in keys[name] if not held.get(key)):
                yield Check("secret", False, f"{name} has no {', '.join(missing)}", advice)
            else:
                yield Check("secret", True, f"{name} has what is asked of it")

    def filled(self, configuration: Mapping[str, Any]) -> dict[str, Any]:
        """A component's configuration with its secrets; those that are missing are left out."""
        found = {}
        for key, value in configuration.items():
            reference = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
            if reference is None:
                found[key] = value
            elif secret := (self._values(reference["secret"]) or {}).get(reference["key"]):
                found[key] = secret
        return found

    def _values(self, name: str) -> Mapping[str, str] | None:
        if name not in self._held:
            try:
                self._held[name] = self._client.get_secret(name).secret_values
            except (KeyError, RuntimeError):
                return None
        return self._held[name]


def _cluster(
    stack: Any, orchestrator: Any, components: Mapping[str, Any], values: list[Mapping[str, Any]]
) -> Iterator[Check]:
    from zenml.stack import Stack

    from pipelines import kubernetes_cluster, kubernetes_wanted

    told = orchestrator.configuration
    accounts = {told.get("service_account_name"), told.get("step_pod_service_account_name")}
    if "step_operator" in components:
        accounts.add(components["step_operator"].configuration.get("service_account_name"))
    namespace = str(told.get("kubernetes_namespace") or "zenml")
    try:
        client = kubernetes_cluster.patient(Stack.from_model(stack).orchestrator.get_kube_client())
    except Exception as error:  # a kubeconfig can be wrong in many ways, and each tool says it in its own
        advice = "kubectl config get-contexts lists the contexts; LLARA_KUBE_CONTEXT names one"
        yield Check("kubeconfig", False, f"{type(error).__name__}: {error}", advice)
        return
    named = [str(one) for one in accounts if one]
    yield from kubernetes_cluster.examine(client, kubernetes_wanted.wanted_by(values, namespace, named))


def _services(components: Mapping[str, Any], secrets: _Secrets) -> Iterator[Check]:
    from pipelines import kubernetes_addresses as addresses

    filled = {kind: secrets.filled(one.configuration) for kind, one in components.items()}
    if (store := filled.get("artifact_store", {})).get("path", "").startswith("s3://"):
        yield addresses.bucket(store["path"], store)
    if uri := filled.get("experiment_tracker", {}).get("tracking_uri"):
        yield addresses.mlflow(uri, filled["experiment_tracker"])
    if uri := filled.get("container_registry", {}).get("uri"):
        yield addresses.registry(uri)
    builder = components.get("image_builder")
    if builder is not None and builder.flavor_name == "kaniko" and shutil.which("kubectl") is None:
        advice = "install kubectl, or choose LLARA_IMAGE_BUILDER=local"
        yield Check("image builder", False, "kaniko is started by kubectl, which is not here", advice)


if __name__ == "__main__":
    app()
