"""Unknown keys and wrong kinds of values at any depth of what ZenML passes on to Kubernetes unread.

The models of the Kubernetes client say what there is: ``attribute_map`` spelling, ``openapi_types`` kind.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_LIST = re.compile(r"list\[(.*)\]")
_DICT = re.compile(r"dict\(([^,]*), (.*)\)")
# Kubernetes wants a condition or a code in a rule, not both; the client's model has it wrong.
_NOT_NEEDED = {("V1PodFailurePolicyRule", "on_pod_conditions")}
_PLAIN: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "bool": (bool,), "float": (int, float)}


def unknown(key: object, known: Iterable[str], what: str = "unknown key") -> str:
    """The words for an unknown key: what was found, and what was probably meant.

    Spellings in camelCase and snake_case count as the same, so that either leads to the other.
    """
    names = sorted(known)
    same = [name for name in names if _plain(name) == _plain(str(key))]
    close = same or difflib.get_close_matches(str(key), names, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
    return f"{what} {key!r}; {hint}"


def in_settings(values: Mapping[str, Any], known: Iterable[str], where: str) -> Iterator[str]:
    """Complaints about keys of a settings class of ZenML, which keeps unknown ones without a word.

    Args:
        values: the settings as written.
        known: names of its fields.
        where: the place, for the message.
    """
    names = set(known)
    for key in values:
        if key not in names:
            yield f"{where}: {unknown(key, names)}"


def in_model(value: Any, kind: str, where: str) -> Iterator[str]:
    """Complaints about a value that becomes part of a manifest as it is.

    Args:
        value: as read from YAML.
        kind: as in ``openapi_types``: ``V1Volume``, ``list[V1Toleration]``, ``dict(str, str)``, ``str``.
        where: the place, for the message.
    """
    if found := _LIST.fullmatch(kind):
        if not isinstance(value, list):
            yield f"{where}: got {value!r}, expected a list"
            return
        for number, one in enumerate(value):
            yield from in_model(one, found[1], f"{where}[{number}]")
    elif found := _DICT.fullmatch(kind):
        if not isinstance(value, Mapping):
            yield f"{where}: got {value!r}, expected a mapping"
            return
        for key, one in value.items():
            yield from in_model(one, found[2], f"{where}.{key}")
    elif kind in _PLAIN:
        yield from _of_plain(value, kind, where)
    elif (model := _model(kind)) is not None:
        yield from _of_model(value, model, where)


def _of_model(value: Any, model: Any, where: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{where}: got {value!r}, expected a mapping"
        return
    attributes = {spelling: name for name, spelling in model.attribute_map.items()}
    missing = set(_required(model)) - {attributes.get(key) for key in value}
    for key, one in value.items():
        if key not in attributes:
            yield f"{where}: {unknown(key, attributes)}"
            missing.discard(key)  # told already: it is there, in another spelling
        elif one is not None:
            yield from in_model(one, model.openapi_types[attributes[key]], f"{where}.{key}")
    for name in sorted(missing):
        yield f"{where}: {model.attribute_map[name]!r} is missing; Kubernetes needs it"


def _of_plain(value: Any, kind: str, where: str) -> Iterator[str]:
    expected = _PLAIN[kind]
    if isinstance(value, expected) and not (isinstance(value, bool) and bool not in expected):
        return
    names = {"str": "text", "int": "a whole number", "bool": "true or false", "float": "a number"}
    quoted = str(value).lower() if isinstance(value, bool) else value
    hint = f'; write it in quotes: "{quoted}"' if kind == "str" and isinstance(value, int | float) else ""
    yield f"{where}: got {value!r}, expected {names[kind]}{hint}"


def _required(model: Any) -> list[str]:
    """Attributes that may not be missing: those that the model itself refuses to be without."""
    from kubernetes.client import Configuration

    checked = Configuration()
    checked.client_side_validation = True
    empty, needed = model.__new__(model), []
    empty.local_vars_configuration = checked
    for name in model.attribute_map:
        try:
            setattr(empty, name, None)
        except ValueError:
            if (model.__name__, name) not in _NOT_NEEDED:
                needed.append(name)
    return needed


def _model(kind: str) -> Any:
    from kubernetes.client import models

    return getattr(models, kind, None)


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
