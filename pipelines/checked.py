"""Pipelines that check a run configuration before they take it, whoever starts them.

``zenml pipeline run`` and schedules hand the file to ``with_options``; the launcher does as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

from zenml.pipelines.dynamic.pipeline_definition import DynamicPipeline
from zenml.pipelines.pipeline_definition import Pipeline

from llara_core.errors import LlaraError
from llara_core.settings import Settings
from pipelines import run_configuration
from pipelines.options import UnusableInputError

SettingsType = TypeVar("SettingsType", bound=Settings)
AnyPipeline = TypeVar("AnyPipeline", bound=Pipeline)


def checked(
    steps: Collection[str] | Callable[[SettingsType], Collection[str]], settings_type: type[SettingsType]
) -> Callable[[AnyPipeline], AnyPipeline]:
    """A decorator above ZenML's: the pipeline refuses a run configuration that ZenML would read past.

    Args:
        steps: names of the pipeline's steps, or what gives them where they depend on the settings.
        settings_type: what the pipeline's parameters are fields of.
    """

    def of(pipeline: AnyPipeline) -> AnyPipeline:
        # ZenML's decorator chooses the class itself and copies instances, so neither a subclass of ours nor
        # an attribute of the instance would last; of another class, copies are checked as well.
        dynamic = isinstance(pipeline, DynamicPipeline)
        pipeline.__class__ = _CheckedDynamicPipeline if dynamic else _CheckedPipeline
        pipeline._known = (steps, settings_type)  # type: ignore[attr-defined]
        return pipeline

    return of


class _Checks:
    """Comes before ZenML's class."""

    _known: tuple[Any, type[Settings]]

    def with_options(self, *args: Any, config_path: str | None = None, **options: Any) -> Any:
        """ZenML's method of this name.

        Raises:
            UnusableInputError: the run configuration holds a mistake; says which, and what to write.
        """
        if config_path is not None:
            try:
                run_configuration.check(Path(config_path), *self._known)
            except LlaraError as error:
                raise UnusableInputError(error) from error
        return super().with_options(*args, config_path=config_path, **options)  # type: ignore[misc]


class _CheckedPipeline(_Checks, Pipeline):
    """A static pipeline that checks."""


class _CheckedDynamicPipeline(_Checks, DynamicPipeline):
    """A dynamic pipeline that checks."""
