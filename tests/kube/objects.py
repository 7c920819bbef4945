"""What a request to the Kubernetes API asks for, and the objects it may ask for: kept in memory, no etcd."""

from __future__ import annotations

import copy
import datetime
import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

# Resource of the address -> (apiVersion, kind): what ZenML and our own checks use, and what they look at.
KINDS: dict[str, tuple[str, str]] = {
    "configmaps": ("v1", "ConfigMap"),
    "events": ("v1", "Event"),
    "namespaces": ("v1", "Namespace"),
    "nodes": ("v1", "Node"),
    "persistentvolumeclaims": ("v1", "PersistentVolumeClaim"),
    "pods": ("v1", "Pod"),
    "resourcequotas": ("v1", "ResourceQuota"),
    "secrets": ("v1", "Secret"),
    "serviceaccounts": ("v1", "ServiceAccount"),
    "services": ("v1", "Service"),
    "jobs": ("batch/v1", "Job"),
    "cronjobs": ("batch/v1", "CronJob"),
    "deployments": ("apps/v1", "Deployment"),
    "networkpolicies": ("networking.k8s.io/v1", "NetworkPolicy"),
    "priorityclasses": ("scheduling.k8s.io/v1", "PriorityClass"),
    "rolebindings": ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    "roles": ("rbac.authorization.k8s.io/v1", "Role"),
    "selfsubjectaccessreviews": ("authorization.k8s.io/v1", "SelfSubjectAccessReview"),
    "storageclasses": ("storage.k8s.io/v1", "StorageClass"),
}
_WITH_STATUS = {"jobs", "cronjobs", "pods"}
_ADDRESS = re.compile(
    r"/(?:api/v1|apis/(?P<group>[^/]+)/[^/]+)(?:/namespaces/(?P<namespace>[^/]+)(?=/))?"
    r"/(?P<resource>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<subresource>[a-z]+))?"
)
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class ApiError(Exception):
    """An answer other than 2xx, as the API server words it."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason

    def body(self) -> Object:
        """The `Status` object that clients read."""
        return {
            "apiVersion": "v1", "kind": "Status", "status": "Failure",
            "reason": self.reason, "message": str(self), "code": self.status,
        }  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A request in the words of RBAC: who may do it is decided by verb, group, resource and namespace."""

    verb: str
    group: str
    resource: str
    namespace: str | None
    name: str | None
    subresource: str | None

    @property
    def permission(self) -> tuple[str, str, str]:
        """API group, resource (``pods/log``) and verb, as a rule of a Role names them."""
        resource = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return self.group, resource, self.verb


def asked(method: str, path: str) -> Asked:
    """What a method and an address mean; `ApiError` 404 for a resource that nobody here needs."""
    found = _ADDRESS.fullmatch(path)
    if found is None or found["resource"] not in KINDS:
        raise ApiError(404, "NotFound", f"the server could not find the requested resource ({path})")
    verb = _VERBS.get(method) or ("get" if found["name"] else "list")
    group, namespace = found["group"] or "", found["namespace"]
    return Asked(verb, group, found["resource"], namespace, found["name"], found["subresource"])


def now() -> str:
    """The time as the API writes it."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def patched(old: Any, new: Any) -> Any:
    """JSON merge patch (RFC 7396): null removes, mappings are merged, everything else replaces."""
    if not isinstance(new, dict):
        return new
    merged = dict(old) if isinstance(old, dict) else {}
    for key, value in new.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = patched(merged.get(key), value)
    return merged


class Objects:
    """All objects of the cluster; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._kept: dict[tuple[str, str | None, str], Object] = {}
        self._version = 0

    def create(self, resource: str, namespace: str | None, value: Object) -> Object:
        """Keep a new object, with the metadata that the server gives; returns a copy of it."""
        with self._lock:
            one = copy.deepcopy(value)
            one["apiVersion"], one["kind"] = KINDS[resource]
            if resource in _WITH_STATUS:  # clients take it for granted
                one.setdefault("status", {})
            metadata = one.setdefault("metadata", {})
            metadata.setdefault("name", f"{metadata.get('generateName') or ''}{uuid.uuid4().hex[:5]}")
            key = (resource, namespace, metadata["name"])
            if key in self._kept:
                raise ApiError(409, "AlreadyExists", f'{resource} "{metadata["name"]}" already exists')
            metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
            if namespace is not None:
                metadata["namespace"] = namespace
            return self._store(key, one)

    def get(self, resource: str, namespace: str | None, name: str) -> Object:
        """A copy of an object; `ApiError` 404 without it."""
        with self._lock:
            key = (resource, namespace, name)
            if key not in self._kept:
                raise ApiError(404, "NotFound", f'{resource} "{name}" not found')
            return copy.deepcopy(self._kept[key])

    def list(
        self, resource: str, namespace: str | None = None, labels: str = "", fields: str = ""
    ) -> list[Object]:
        """Copies of the objects that fit the selectors, oldest first; namespace None: of all."""
        with self._lock:
            found = [
                copy.deepcopy(one)
                for (kind, place, _), one in self._kept.items()
                if kind == resource and (namespace is None or place == namespace)
            ]
        for term in filter(None, labels.split(",")):
            key, value = term.split("=")
            found = [one for one in found if (one["metadata"].get("labels") or {}).get(key) == value]
        for term in filter(None, fields.split(",")):
            place, value = term.split("=")
            found = [one for one in found if _at(one, place) == value]
        return found

    def change(
        self, resource: str, namespace: str | None, name: str, how: Callable[[Object], Object]
    ) -> Object:
        """Replace an object by what a function makes of it."""
        with self._lock:
            return self._store((resource, namespace, name), how(self.get(resource, namespace, name)))

    def patch(self, resource: str, namespace: str | None, name: str, change: Object) -> Object:
        """Merge a change into an object."""
        return self.change(resource, namespace, name, lambda one: patched(one, change))

    def delete(self, resource: str, namespace: str | None, name: str) -> Object:
        """Remove an object and everything that it owns, as the garbage collector would."""
        with self._lock:
            gone = self.get(resource, namespace, name)
            del self._kept[(resource, namespace, name)]
            for key, one in list(self._kept.items()):
                owners = {owner["uid"] for owner in one["metadata"].get("ownerReferences") or ()}
                if gone["metadata"]["uid"] in owners and key in self._kept:
                    self.delete(*key)
            return gone

    def _store(self, key: tuple[str, str | None, str], one: Object) -> Object:
        self._version += 1
        one["metadata"]["resourceVersion"] = str(self._version)
        self._kept[key] = one
        return copy.deepcopy(one)


def _at(one: Object, place: str) -> Any:
    value: Any = one
    for part in place.split("."):
        value = (value or {}).get(part)
    return value
