"""Every exception that the library raises on purpose.

    LlaraError                    something went wrong that we can name      exit code 1
    ├── InputError                what the user gave cannot be used          exit code 2
    │   ├── ConfigError           a setting is unknown, mistyped or out of range
    │   ├── DataError             a file or a row breaks a rule (names file, row and rule)
    │   └── ModelError            a model folder or id is not a usable decoder or bundle
    ├── TrainingError             a stage could not finish (non-finite loss, nothing to train on)
    └── MissingDependencyError    an optional package is needed and not installed

A message says what was found, what was expected and what to do about it; the command line
prints it alone and exits with ``exit_code`` (issue 2, point 9).
"""

from __future__ import annotations

from pathlib import Path


class LlaraError(Exception):
    """Base of every error raised on purpose; ``exit_code`` is what the command line exits with."""

    exit_code = 1


class InputError(LlaraError):
    """What the user gave cannot be used as it is."""

    exit_code = 2


class ConfigError(InputError):
    """A setting is unknown, of the wrong type or out of range."""


class DataError(InputError):
    """A file, or a row of it, breaks a rule.

    Args:
        message: what is wrong and how to mend it.
        file: the file at fault (a path, or a URL without its secrets), where there is one.
        row: the 1-based line of that file, where there is one.
        rule: the short name of the broken rule, e.g. ``unique_ids``.
    """

    def __init__(
        self, message: str, *, file: Path | str | None = None, row: int | None = None, rule: str | None = None
    ) -> None:
        """Prefix the message with the place, so that it can be clicked: ``file:row: message``."""
        self.file, self.row, self.rule = file, row, rule
        place = "" if file is None else f"{file}:{row}: " if row is not None else f"{file}: "
        suffix = "" if rule is None else f" [{rule}]"
        super().__init__(f"{place}{message}{suffix}")


class ModelError(InputError):
    """A model folder or id is not a usable decoder, or not a bundle of ours."""


class TrainingError(LlaraError):
    """A training stage could not finish; the message names the step and the reason."""


class MissingDependencyError(LlaraError):
    """An optional package is needed; the message names the extra that brings it."""
