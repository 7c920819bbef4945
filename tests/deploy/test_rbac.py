"""The Roles of the base, against what ZenML's and our own code asks of the API server: no more, no less."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.roles import allowed

pytest.importorskip("kubernetes")

_CALL = re.compile(r"(?P<verb>create|read|list|patch|delete)_namespaced_(?P<resource>[a-z_]+)")
_RESOURCES = {
    "job": ("batch", "jobs"), "cron_job": ("batch", "cronjobs"), "pod": ("", "pods"),
    "pod_log": ("", "pods/log"), "secret": ("", "secrets"), "service": ("", "services"),
    "service_account": ("", "serviceaccounts"),
    "role_binding": ("rbac.authorization.k8s.io", "rolebindings"),
}  # fmt: skip
_ZENML = "zenml.integrations.kubernetes"
# The stack names a service account, so ZenML makes none.
_NEVER = {"_get_service_account_name", "create_edit_service_account"}
_RUN_BY_THE_ORCHESTRATOR = {
    "submit_isolated_step_with_allocation", "get_isolated_step_status", "stop_isolated_step",
    "get_orchestrator_run_id",
}  # fmt: skip


def source(module: str) -> str:
    """Text of a module, which is not imported: ZenML takes seconds."""
    package, *names = module.split(".")
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent.joinpath(*names).with_suffix(".py").read_text(encoding="utf-8")


def asked(
    module: str, but: set[str] = frozenset(), only: set[str] | None = None
) -> set[tuple[str, str, str]]:  # type: ignore[assignment]
    """Calls of the API in a module's functions, and in those of ZenML's ``kube_utils`` that they call."""
    tree, helpers = ast.parse(source(module)), ast.parse(source(f"{_ZENML}.kube_utils"))
    known = {node.name: node for node in helpers.body if isinstance(node, ast.FunctionDef)}
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    waiting: list[ast.AST] = [
        one for one in functions if one.name not in but | _NEVER and (only is None or one.name in only)
    ]
    seen: set[str] = set()
    found: set[tuple[str, str, str]] = set()
    while waiting:
        for name in _names(waiting.pop()):
            if call := _CALL.fullmatch(name):
                group, resource = _RESOURCES[call["resource"]]
                found.add((group, resource, call["verb"].replace("read", "get")))
            elif name in known and name not in seen | _NEVER:
                seen.add(name)
                waiting.append(known[name])
    return found


def _names(node: ast.AST) -> Iterator[str]:
    for one in ast.walk(node):
        if isinstance(one, ast.Attribute):
            yield one.attr
        elif isinstance(one, ast.Name):
            yield one.id


def test_the_orchestrator_may_do_what_its_pods_do() -> None:
    called: set[tuple[str, str, str]] = set()
    called |= asked(f"{_ZENML}.orchestrators.kubernetes_orchestrator_entrypoint")
    orchestrator = f"{_ZENML}.orchestrators.kubernetes_orchestrator"
    called |= asked(orchestrator, only=_RUN_BY_THE_ORCHESTRATOR)  # dynamic pipelines
    called |= asked(f"{_ZENML}.step_operators.kubernetes_step_operator")
    assert called == allowed("llara-orchestrator")


def test_the_launcher_may_do_what_whoever_starts_runs_does() -> None:
    called = asked(f"{_ZENML}.orchestrators.kubernetes_orchestrator", but=_RUN_BY_THE_ORCHESTRATOR)
    called |= asked("pipelines.schedules_zenml")
    assert called == allowed("llara-launcher")


def test_the_doctor_asks_for_what_the_launcher_may() -> None:
    from pipelines.kubernetes_cluster import LAUNCHING

    asked_for = {(group, resource, verb) for group, resource, verbs in LAUNCHING for verb in verbs}
    assert asked_for == allowed("llara-launcher")


def test_the_doctor_may_look() -> None:
    looks = {
        ("", "namespaces", "get"), ("", "serviceaccounts", "get"), ("", "persistentvolumeclaims", "list"),
        ("", "resourcequotas", "list"),
    }  # fmt: skip
    assert allowed("llara-doctor") == looks
    sources = "".join(source(f"pipelines.kubernetes_{name}") for name in ("cluster", "capacity"))
    called = set(re.findall(r"\b(?:read|list)_[a-z_]+", sources))
    assert called == {
        "read_namespace", "read_namespaced_service_account", "list_namespaced_persistent_volume_claim",
        "list_namespaced_resource_quota", "list_node", "list_storage_class", "list_priority_class",
    }  # fmt: skip
    assert {resource for _, resource, _ in allowed("llara-doctor", "ClusterRole")} == {
        "nodes", "storageclasses", "priorityclasses",
    }  # fmt: skip


@pytest.mark.parametrize("role", ["llara-orchestrator", "llara-launcher", "llara-doctor"])
def test_no_role_gives_everything(role: str) -> None:
    rules: Any = allowed(role)
    assert not any("*" in part for rule in rules for part in rule)
    # Whoever may read secrets has the tokens of all runs.
    assert not rules & {("", "secrets", verb) for verb in ("get", "list", "watch")}
