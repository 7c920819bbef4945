"""Read a run configuration and refuse what ZenML would silently ignore.

ZenML drops unknown top-level keys without a word and only warns about unknown step names.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from llara_core.errors import ConfigError
from llara_core.settings import Settings, load_yaml, nearest
from pipelines import kubernetes_check

ON_NODES = "_on_nodes"  # how steps are called that are a command for several pods: pipelines/on_nodes.py
SettingsType = TypeVar("SettingsType", bound=Settings)


def check(
    path: Path,
    steps: Collection[str] | Callable[[SettingsType], Collection[str]],
    settings_type: type[SettingsType],
) -> SettingsType:
    """Check the whole file before anything runs; returns the settings it holds.

    Args:
        path: a ZenML run configuration whose ``parameters`` are fields of the settings.
        steps: names of the pipeline's steps, or what gives them where they depend on the settings.
        settings_type: what the pipeline is told by, e.g. ``TrainingSettings``.

    Raises:
        ConfigError: the file is missing or broken, a key, step or setting is unknown, or what it says to
            Kubernetes cannot work.
    """
    from pydantic import ValidationError
    from zenml.config.pipeline_run_configuration import PipelineRunConfiguration

    values = load_yaml(path)
    _known(values, PipelineRunConfiguration.model_fields, f"{path}: unknown key")
    settings = settings_type.parse(_mapping(values, "parameters", path), "parameters")
    known = steps(settings) if callable(steps) else steps
    for name, entry in _mapping(values, "steps", path).items():
        _known([name], known, f"{path}: steps: unknown step")
        _step(name, entry, path)
    try:
        PipelineRunConfiguration.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {place}: got {first['input']!r}; {first['msg']}") from None
    kubernetes_check.check(values, path, [name for name in known if name.endswith(ON_NODES)])
    return settings


@contextmanager
def for_this_run(path: Path, no_cache: bool) -> Iterator[Path]:
    """The file that ZenML is to read: the given one, or for an uncached run a copy that says so.

    A copy, because what a file says about the cache wins over what the pipeline is told in code.

    Args:
        path: a run configuration that has been checked.
        no_cache: run every step, whatever the file says, also about single steps.
    """
    if not no_cache:
        yield path
        return
    values = {**load_yaml(path), "enable_cache": False}
    steps = {name: {**step, "enable_cache": False} for name, step in (values.get("steps") or {}).items()}
    with tempfile.TemporaryDirectory(prefix="llara-") as folder:
        copy = Path(folder) / path.name
        copy.write_text(yaml.safe_dump({**values, "steps": steps}), encoding="utf-8")
        yield copy


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
