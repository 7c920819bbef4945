"""Where a run configuration speaks of Kubernetes: keys of ``settings``, the pipeline's and the steps'."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines import kubernetes_check_keys as keys

_TYPES = ("orchestrator", "step_operator")
# `orchestrator`, `orchestrator.kubernetes`, `orchestrator:llara-kubernetes`
_KEY = re.compile(r"(?P<type>[a-z_]+)(?:(?P<sign>[.:])(?P<selector>.+))?")
_FLAVOR = "kubernetes"


def all_keys(values: Mapping[str, Any]) -> Iterator[object]:
    """Keys of all `settings`, the pipeline's and the steps'."""
    yield from mapping(values.get("settings"))
    for step in mapping(values.get("steps")).values():
        yield from mapping(mapping(step).get("settings"))


def misspelt(settings: Mapping[str, Any], where: str) -> Iterator[str]:
    """Keys of `settings` that ZenML refuses late (unknown type) or drops with a warning (unknown flavor)."""
    from zenml.enums import StackComponentType
    from zenml.utils import settings_utils

    general, types = set(settings_utils.get_general_settings()), set(StackComponentType.values())
    for key in settings:
        found = _KEY.fullmatch(str(key))
        if key in general:
            continue
        if found is None or found["type"] not in types:
            yield f"{where}: {keys.unknown(key, general | types)}"
        elif found["sign"] == "." and found["type"] in _TYPES and _nearly(found["selector"]):
            yield f"{where}: {keys.unknown(key, [found['type'] + '.' + _FLAVOR])}; ZenML would leave it out"


def component(key: object) -> str | None:
    """``orchestrator`` or ``step_operator`` if a key of ``settings`` means Kubernetes' own, else None.

    One without a flavor means whatever the stack has, and is held to be Kubernetes'.
    """
    found = _KEY.fullmatch(str(key))
    if found is None or found["type"] not in _TYPES:
        return None
    return found["type"] if found["sign"] != "." or found["selector"] == _FLAVOR else None


def spoken_of(values: Mapping[str, Any]) -> bool:
    """Whether a run configuration says something to Kubernetes, or asks ZenML for GPUs, which it ignores."""
    return any(component(key) or key == "resources" for key in all_keys(values))


def key_of(settings: Mapping[str, Any], wanted: str) -> str:
    """The key under which the settings of a component stand, as it is written; the component if nowhere."""
    return next((str(key) for key in settings if component(key) == wanted), wanted)


def settings_of(settings: Mapping[str, Any], wanted: str) -> Mapping[str, Any]:
    """The settings of a component; empty if there are none."""
    return mapping(settings.get(key_of(settings, wanted)))


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one: what it is instead is told elsewhere."""
    return value if isinstance(value, Mapping) else {}


def _nearly(flavor: str) -> bool:
    return flavor != _FLAVOR and "did you mean" in keys.unknown(flavor, [_FLAVOR])
