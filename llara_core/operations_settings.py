"""Settings of operations: when to raise an alarm about the disk, what an hour costs, what is kept how long.

They concern a machine or a team, not one run, so they stand in a file of their own:
``configs/operations.yaml``, or the file that ``$LLARA_OPERATIONS`` names. Source: issue 6, point 6.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field
from typing_extensions import Self

from llara_core.settings import Settings, load_yaml

OPERATIONS = "LLARA_OPERATIONS"  # environment variable that names another file


class AlertSettings(Settings):
    """When to raise an alarm by itself.

    Args:
        minimum_free_gb: free space of the disk with the local state, and of the volume with the checkpoints,
            in GB (10^9 bytes), below which the start of a step raises ``disk low``; 0: never.
    """

    minimum_free_gb: float = Field(default=5.0, ge=0)


class CostSettings(Settings):
    """What time costs.

    Args:
        currency: the word that stands beside amounts.
        per_hour: of the machine; 0: cost is not recorded.
        per_gpu_hour: of each GPU that a step can see, on top.
    """

    currency: str = Field(default="EUR", min_length=1, max_length=12)
    per_hour: float = Field(default=0.0, ge=0)
    per_gpu_hour: float = Field(default=0.0, ge=0)


class RetentionSettings(Settings):
    """What ``llara gc`` leaves, besides all that is in use.

    Args:
        minimum_age_days: nothing younger is ever deleted; a step of a run may take that long.
        runs: newest finished runs of each pipeline.
        versions: newest versions of each registered model.
        generations: newest unused generations of each live store, besides the live one and the one before.
        vectors_days: vectors of no model that is kept, BM25 indexes, and fetched copies of registered models,
            that nobody has written or read for as long.
        volume_days: on a volume of a cluster (``llara gc --volume``) everything that nobody has written or
            read for as long. There age alone protects what pods on other nodes use.
        keep: folders or files below the local state, or the volume, that are never touched, as glob patterns.
    """

    minimum_age_days: float = Field(default=7.0, ge=0)
    runs: int = Field(default=20, ge=1)
    versions: int = Field(default=5, ge=1)
    generations: int = Field(default=1, ge=0)
    vectors_days: float = Field(default=30.0, ge=0)
    volume_days: float = Field(default=7.0, ge=1)
    keep: tuple[str, ...] = ()


class OperationsSettings(Settings):
    """All of the above."""

    alerts: AlertSettings = AlertSettings()
    costs: CostSettings = CostSettings()
    retention: RetentionSettings = RetentionSettings()

    @classmethod
    def load(cls, default: Path | None = None) -> Self:
        """The settings of ``$LLARA_OPERATIONS``, else of a default file, else the defaults.

        Args:
            default: file that need not exist.

        Raises:
            ConfigError: the file that the variable names is missing, or a file holds an unknown setting.
        """
        chosen = os.environ.get(OPERATIONS)
        path = Path(chosen).expanduser() if chosen else default
        if path is None or not (chosen or path.is_file()):
            return cls()
        return cls.parse(load_yaml(path), str(path))
