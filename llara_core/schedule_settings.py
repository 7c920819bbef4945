"""Settings of one schedule, as the files of ``configs/schedules/`` hold them (issue 6, point 3)."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator
from typing_extensions import Self

from llara_core.errors import ConfigError
from llara_core.settings import Settings, load_yaml

Pipeline = Literal["retraining", "indexing", "training", "adaptation", "evaluation"]
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


class ScheduleSettings(Settings):
    """When to start which pipeline with which configuration, on which stack."""

    pipeline: Pipeline = "retraining"
    config: Path  # run configuration, relative to the project's root
    cron: str  # minute hour day-of-month month day-of-week, in `timezone`
    timezone: str  # IANA name, e.g. Europe/Berlin or UTC; no default: every schedule says its own
    stack: str = "llara-local"
    paused: bool = False
    # A run that could not start at its time (machine off, the run before still at work) may start this much
    # later; one that is later still is left out and told as missed.
    grace_minutes: int = Field(12 * 60, ge=5, le=7 * 24 * 60)

    @field_validator("cron")
    @classmethod
    def _cron(cls, value: str) -> str:
        from llara_core.operations.schedules_times import parse_cron

        try:
            parse_cron(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return " ".join(value.split())

    @field_validator("timezone")
    @classmethod
    def _timezone(cls, value: str) -> str:
        from llara_core.operations.schedules_times import find_zone

        try:
            find_zone(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return value

    @property
    def zone(self) -> ZoneInfo:
        """The time zone."""
        return ZoneInfo(self.timezone)

    @property
    def grace(self) -> timedelta:
        """How late a run may start."""
        return timedelta(minutes=self.grace_minutes)

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read one file.

        Raises:
            ConfigError: file name or content cannot be used.
        """
        check_name(file.stem, str(file))
        return cls.parse(load_yaml(file), str(file))


def check_name(name: str, where: str) -> None:
    """Refuse names that orchestrators would.

    Raises:
        ConfigError: the name is too long or has other letters.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{where}: a schedule is named by its file: small letters a-z, digits and hyphens, at most 40, "
            f"got {name!r}"
        )
