"""What all settings share: frozen, closed to unknown keys, and errors that name the nearest known key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from typing_extensions import Self

from llara_core.errors import ConfigError

# A password or token written into an address. In its place may stand $NAME of an environment variable, which
# the step that reads the address fills in, or ZenML's {{secret.key}}. Not ${NAME}: ZenML fills that in itself
# when a run begins, and stores the result.
_NAMED = r"(?!\$[A-Za-z_]|\{\{)"
_KEYS = (
    "x-amz-signature|x-amz-security-token|sig|signature|token|access_token|api[_-]?key|key|password|secret"
)
_SECRET = re.compile(rf"://[^/\s:@]*:{_NAMED}[^/\s@]+@|[?&](?:{_KEYS})={_NAMED}[^&\s]+", re.IGNORECASE)


def holds_secret(text: str) -> bool:
    """Whether an address in a text holds a password or a token itself, and not the name of a variable."""
    return _SECRET.search(text) is not None


class Settings(BaseModel):
    """Base of all settings: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @model_validator(mode="after")
    def _no_secret_stands_here(self) -> Self:
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, str) and holds_secret(value):
                raise ConfigError(
                    f"{name}: holds a password or token, and configurations are stored with every run; put "
                    "it into an environment variable and name that without braces, $VARIABLE (ZenML would "
                    "fill in ${VARIABLE} and store the result)"
                )
        return self

    @classmethod
    def parse(cls, values: Mapping[str, Any] | Self | None, where: str) -> Self:
        """Build the settings from plain values.

        Args:
            values: a mapping as read from YAML, settings already built, or None for the defaults.
            where: the key under which the values stand, for the message, e.g. ``adapt``.

        Raises:
            ConfigError: on the first unknown key or unusable value; names the nearest known key.
        """
        if isinstance(values, cls):
            return values
        if values is not None and not isinstance(values, Mapping):
            raise ConfigError(f"{where}: expected a mapping of settings, got {values!r}")
        try:
            return cls.model_validate(dict(values or {}))
        except ValidationError as error:
            raise ConfigError(_explain(cls, error, where)) from None


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: the file is missing, is not YAML, or does not hold a mapping.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such configuration file; complete ones are in configs/ (training: demo.yaml)"
        )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping at the top, got {type(values).__name__}")
    return values


def nearest(name: str, known: list[str]) -> str:
    """``; did you mean 'x'?`` for the closest known name, or the list of known names."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"


def _explain(cls: type[BaseModel], error: ValidationError, where: str) -> str:
    errors = error.errors()
    # A union reports one error a member; an unknown key tells more than "should be a string".
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    path = [str(part) for part in first["loc"] if not str(part)[:1].isupper()]
    message = first["msg"].removeprefix("Value error, ")
    place = ".".join([where, *path]) if where else ".".join(path)
    if first["type"] == "extra_forbidden":
        return f"{place}: unknown setting{nearest(path[-1], _known_keys(cls, path[:-1]))}"
    return f"{place}: got {first['input']!r}; {message[0].lower()}{message[1:]}"


def _known_keys(cls: type[BaseModel], path: list[str]) -> list[str]:
    """Field names of the settings that stand at ``path`` below ``cls``."""
    for part in path:
        field = cls.model_fields.get(part)
        if field is None:
            break
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        cls = inner[0] if inner else cls
    return list(cls.model_fields)


def configuration(path: str, root: Path) -> Path:
    """A configuration as the user named it: from the working folder, else from the checkout."""
    given = Path(path).expanduser()
    return given if given.is_absolute() or given.is_file() else root / given
