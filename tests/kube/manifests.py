"""Strict validation of manifests against the schemas of the current versions, and walks over them."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

from tests.kube.objects import Object

QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
SUPPORTED = 3  # minor versions that Kubernetes maintains at any time


def versions() -> list[str]:
    """The newest minor versions whose schemas are at hand, newest first."""
    from kubernetes_validate import utils

    known = sorted(
        {utils.major_minor(one) for one in utils.all_versions()}, key=lambda one: int(one.split(".")[1])
    )
    return known[: -SUPPORTED - 1 : -1]


def defaulted(manifest: Object) -> Object:
    """A copy as the server would keep it: without nulls, and with the default that older schemas miss.

    A null is no value to the server. ZenML writes some, with names that no schema knows, where it merges a
    container's security context.
    """
    one: Object = _without_nulls(manifest)
    spec = one.get("spec") or {}
    job = (spec.get("jobTemplate") or {}).get("spec") or spec
    for rule in (job.get("podFailurePolicy") or {}).get("rules") or ():
        for condition in rule.get("onPodConditions") or ():
            condition.setdefault("status", "True")
    return one


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def complaints(manifest: Object) -> list[str]:
    """What is wrong with a manifest, in any of the versions: unknown keys, wrong types, bad quantities."""
    import kubernetes_validate

    _read_schemas_once()
    found, kept = [], defaulted(manifest)
    for version in versions():
        try:
            kubernetes_validate.validate(kept, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{version}: {'.'.join(str(part) for part in error.path)}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError as error:
            found.append(f"{version}: {error.message}")
    return found + bad_quantities(manifest)


@functools.cache
def _read_schemas_once() -> None:
    """The library reads a megabyte of definitions anew for each manifest; they do not change."""
    from kubernetes_validate import utils

    utils.schema_contents = functools.cache(utils.schema_contents)


def bad_quantities(manifest: Object) -> list[str]:
    """Quantities that the schemas take for any text: ``one`` passes there for a number of GPUs."""
    found = []
    for container in containers(manifest):
        for kind in ("requests", "limits"):
            for name, value in ((container.get("resources") or {}).get(kind) or {}).items():
                if not QUANTITY.fullmatch(str(value)):
                    found.append(f"{container['name']}: {kind}.{name}: {value!r} is no quantity")
    return found


def pod_spec(manifest: Object) -> Object:
    """The pod's specification in a Job, a CronJob, a Deployment or a Pod; {} in others."""
    spec = manifest.get("spec") or {}
    if "jobTemplate" in spec:
        spec = spec["jobTemplate"]["spec"]
    found: Object = spec["template"]["spec"] if "template" in spec else spec if "containers" in spec else {}
    return found


def containers(manifest: Object) -> list[Object]:
    """All containers of a manifest's pods."""
    spec = pod_spec(manifest)
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def gpus(manifest: Object, name: str = "nvidia.com/gpu") -> int:
    """GPUs that one pod of the manifest gets."""
    return sum(
        int(((one.get("resources") or {}).get("limits") or {}).get(name, 0)) for one in containers(manifest)
    )


def texts(value: Any) -> Iterator[str]:
    """Every text in a document, keys included."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif value is not None:
        yield str(value)
