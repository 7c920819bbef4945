"""What every pipeline of ours asks of ZenML: tracking where the stack can, and errors people can read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click
from zenml.client import Client
from zenml.enums import StackComponentType
from zenml.steps import BaseStep

from llara_core.errors import LlaraError

Function = TypeVar("Function", bound=Callable[..., Any])


class UnusableInputError(click.ClickException, LlaraError):
    """An error of ours that ``zenml pipeline run`` prints as one line and exits with its code."""

    def __init__(self, error: LlaraError) -> None:
        """Take over message and exit code."""
        super().__init__(str(error))
        self.exit_code = error.exit_code


def for_stack(step: BaseStep) -> BaseStep:
    """The step, tracked by the active stack's experiment tracker where it has one.

    Asked for unconditionally, ZenML refuses to run the step on a stack without a tracker.
    """
    components = Client().active_stack_model.components
    if components.get(StackComponentType.EXPERIMENT_TRACKER):
        return step.with_options(experiment_tracker=True)
    return step


def readable_errors(function: Function) -> Function:
    """Make a pipeline function raise what the command line shows without a traceback."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except LlaraError as error:
            raise UnusableInputError(error) from error

    return wrapped  # type: ignore[return-value]
