"""Read a run configuration and refuse what ZenML would silently ignore.

ZenML drops unknown top-level keys without a word and only warns about unknown step names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from llara_core.config import TrainingSettings
from llara_core.errors import ConfigError
from llara_core.settings import load_yaml, nearest


def check(path: Path, steps: Collection[str]) -> TrainingSettings:
    """Check the whole file before anything runs; returns the settings it holds.

    Args:
        path: a ZenML run configuration whose ``parameters`` are fields of ``TrainingSettings``.
        steps: names of the pipeline's steps.

    Raises:
        ConfigError: the file is missing or broken, or a key, step or setting is unknown.
    """
    from pydantic import ValidationError
    from zenml.config.pipeline_run_configuration import PipelineRunConfiguration

    values = load_yaml(path)
    _known(values, PipelineRunConfiguration.model_fields, f"{path}: unknown key")
    for name, entry in _mapping(values, "steps", path).items():
        _known([name], steps, f"{path}: steps: unknown step")
        _step(name, entry, path)
    settings = TrainingSettings.parse(_mapping(values, "parameters", path), "parameters")
    try:
        PipelineRunConfiguration.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {place}: got {first['input']!r}; {first['msg']}") from None
    return settings


def _mapping(values: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    found = values.get(key) or {}
    if not isinstance(found, Mapping):
        raise ConfigError(f"{path}: {key}: expected a mapping, got {found!r}")
    return found


def _step(name: str, entry: Any, path: Path) -> None:
    from zenml.config.step_configurations import StepConfigurationUpdate

    if not isinstance(entry, Mapping):
        raise ConfigError(f"{path}: steps.{name}: expected a mapping, got {entry!r}")
    _known(entry, StepConfigurationUpdate.model_fields, f"{path}: steps.{name}: unknown key")
    if entry.get("parameters"):
        raise ConfigError(
            f"{path}: steps.{name}.parameters: settings of a step stand under the top-level `parameters:`"
        )


def _known(names: Collection[str], known: Collection[str], complaint: str) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"{complaint} {name!r}{nearest(str(name), sorted(known))}")
