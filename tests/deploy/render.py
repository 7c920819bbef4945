"""What ``kubectl apply -k`` would send: the part of Kustomize that deploy/kubernetes uses, and no more.

Known: resources, namespace, labels without selectors, images, and JSON patches by kind and name. All else
in a kustomization is refused, so that nothing is left out unseen. Where kubectl is, a test compares the two.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
_KNOWN = {"apiVersion", "kind", "namespace", "labels", "resources", "images", "patches"}
# Have no namespace themselves.
_OF_THE_CLUSTER = {"Namespace", "PriorityClass", "ClusterRole", "ClusterRoleBinding"}


def render(folder: Path) -> list[Manifest]:
    """The manifests of a folder with a ``kustomization.yaml``."""
    told = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    assert set(told) <= _KNOWN, f"{folder}: {sorted(set(told) - _KNOWN)} are not known here"
    found: list[Manifest] = []
    for name in told["resources"]:
        path = folder / name
        if path.is_dir():
            found += render(path)
        else:
            found += [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]
    for patch in told.get("patches", []):
        _patch(found, patch)
    for one in found:
        _namespace(one, told.get("namespace"))
        for label in told.get("labels", []):
            assert set(label) == {"pairs"}
            one["metadata"]["labels"] = {**one["metadata"].get("labels", {}), **label["pairs"]}
        for container in _containers(one):
            _image(container, told.get("images", []))
    return found


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The one manifest of a kind and name."""
    [found] = [one for one in manifests if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def _namespace(one: Manifest, namespace: str | None) -> None:
    if namespace is None:
        return
    if one["kind"] == "Namespace":
        one["metadata"]["name"] = namespace
    elif one["kind"] not in _OF_THE_CLUSTER:
        one["metadata"]["namespace"] = namespace


def _containers(one: Manifest) -> list[Manifest]:
    spec = pod_spec(one)
    return list(spec["containers"]) if spec else []


def pod_spec(one: Manifest) -> Manifest | None:
    """What a Deployment's or a CronJob's pods are; None: it starts none."""
    if one["kind"] not in ("Deployment", "CronJob"):
        return None
    spec = one["spec"] if one["kind"] == "Deployment" else one["spec"]["jobTemplate"]["spec"]
    found: Manifest = spec["template"]["spec"]
    return found


def _image(container: Manifest, images: list[dict[str, str]]) -> None:
    name, _, tag = container["image"].partition(":")
    for image in images:
        if name == image["name"]:
            container["image"] = f"{image.get('newName', name)}:{image.get('newTag', tag)}"
            return


def _patch(found: list[Manifest], patch: dict[str, Any]) -> None:
    target = patch["target"]
    assert set(target) <= {"kind", "name"}
    meant = [
        one
        for one in found
        if one["kind"] == target["kind"]
        and target.get("name", one["metadata"]["name"]) == one["metadata"]["name"]
    ]
    assert meant, f"no manifest is {target}"
    for one in meant:
        for operation in yaml.safe_load(patch["patch"]):
            _operate(one, operation)


def _operate(one: Manifest, operation: dict[str, Any]) -> None:
    """JSON patch (RFC 6902): add and replace."""
    assert operation["op"] in ("add", "replace")
    *places, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    at: Any = one
    for place in places:
        at = at[int(place)] if isinstance(at, list) else at[place]
    value = copy.deepcopy(operation["value"])
    if isinstance(at, list):
        assert last == "-"
        at.append(value)
        return
    assert operation["op"] == "add" or last in at
    at[last] = value
