"""Is the cluster ready for runs? One check a concern, asked of the API server and never waited for long."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from llara_core.doctor import Check
from pipelines import kubernetes_capacity as capacity
from pipelines.kubernetes_capacity import APPLY, TIMEOUT
from pipelines.kubernetes_wanted import Wanted

# What whoever starts runs, looks at them and schedules them does: (API group, resource, verbs). The Role
# llara-launcher of deploy/kubernetes/base grants it.
LAUNCHING = (
    ("batch", "jobs", ("create", "get", "list", "delete")),
    ("batch", "cronjobs", ("create", "get", "patch", "delete")),
    ("", "pods", ("list",)),
    ("", "pods/log", ("get",)),
    ("", "secrets", ("create", "patch", "delete")),
)


def examine(client: Any, wanted: Wanted) -> list[Check]:
    """Look at the cluster; changes nothing.

    Args:
        client: ``kubernetes.client.ApiClient``, however it was made.
        wanted: what runs will ask for.
    """
    looks: list[Callable[[Any, Wanted], Iterator[Check]]] = [
        _namespace, _permissions, capacity.volumes, capacity.priorities, capacity.gpus, capacity.quotas,
    ]  # fmt: skip
    found = [_server(client)]
    for look in looks if found[0].ok else ():
        try:
            found += look(client, wanted)
        except Exception as error:  # what the client raises is as manifold as networks are
            found.append(_refused(look.__name__.strip("_"), error))
    return found


def patient(client: Any) -> Any:
    """A client like the given one that gives up when it is not answered: it does not try again by itself."""
    from kubernetes.client import ApiClient

    configuration = client.configuration
    configuration.retries = False
    return ApiClient(configuration)


def _server(client: Any) -> Check:
    address = client.configuration.host
    try:
        # Not by the client's model of a version, which refuses those that lack a field.
        version, *_ = client.call_api(
            "/version", "GET", response_type="object", auth_settings=["BearerToken"], _request_timeout=TIMEOUT
        )
    except Exception as error:
        return Check(
            "api server", False, f"{address}: {_words(error)}",
            "is the cluster running, and is the context the right one? kubectl cluster-info",
        )  # fmt: skip
    return Check(
        "api server", True, f"{address} answers, Kubernetes {version.get('gitVersion', 'of unknown version')}"
    )


def _namespace(client: Any, wanted: Wanted) -> Iterator[Check]:
    from kubernetes.client import CoreV1Api

    core, name = CoreV1Api(client), wanted.namespace
    if not _there(core.read_namespace, name):
        yield Check("namespace", False, f"{name!r} does not exist", APPLY)
        return
    yield Check("namespace", True, name)
    for account in wanted.service_accounts:
        there = _there(core.read_namespaced_service_account, account, name)
        words = f"{account} {'exists' if there else 'does not exist'}"
        yield Check("service account", there, words, "" if there else APPLY)


def _permissions(client: Any, wanted: Wanted) -> Iterator[Check]:
    from kubernetes.client import AuthorizationV1Api

    ask, denied = AuthorizationV1Api(client).create_self_subject_access_review, []
    for group, resource, verbs in LAUNCHING:
        name, _, sub = resource.partition("/")
        for verb in verbs:
            attributes = {"namespace": wanted.namespace, "group": group, "resource": name, "verb": verb}
            body = {
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes | ({"subresource": sub} if sub else {})},
            }  # fmt: skip
            if not ask(body, _request_timeout=TIMEOUT).status.allowed:
                denied.append(f"{verb} {resource}")
    if denied:
        advice = "have an administrator bind the Role llara-launcher of deploy/kubernetes/base to you"
        yield Check("permissions", False, f"in {wanted.namespace} you may not {', '.join(denied)}", advice)
    else:
        yield Check("permissions", True, f"jobs, schedules, logs and secrets in {wanted.namespace}")


def _there(read: Callable[..., object], *names: str) -> bool:
    from kubernetes.client import ApiException

    try:
        read(*names, _request_timeout=TIMEOUT)
    except ApiException as error:
        if error.status != 404:
            raise
        return False
    return True


def _refused(name: str, error: Exception) -> Check:
    advice = "ask an administrator for the right to look, or have them run this"
    if getattr(error, "status", None) != 403:
        advice = "try again; `--debug` shows more"
    return Check(name, False, _words(error), advice)


def _words(error: Exception) -> str:
    """An error of the client in a line: the server's own message where there is one."""
    body = getattr(error, "body", None)
    if body:
        try:
            return f"{getattr(error, 'status', '')} {json.loads(body)['message']}".strip()
        except (ValueError, KeyError, TypeError):
            return f"{getattr(error, 'status', '')} {getattr(error, 'reason', '')}".strip()
    last = getattr(error, "reason", None) or error
    return f"{type(error).__name__}: {last}"
