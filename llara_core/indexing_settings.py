"""Settings of the indexing pipeline: which corpus, what kind of index, and what the canary asks of it.

Shares and scores lie in [0, 1]. Source: issue 6, point 4.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from llara_core.config import TrainingSettings
from llara_core.settings import Settings, configuration, load_yaml


class IndexShapeSettings(Settings):
    """How a new index is built; a refreshed one keeps the shape of the one before."""

    kind: Literal["auto", "flat", "ivfpq", "hnsw"] = "auto"  # auto: by size
    shards: PositiveInt = 1
    dtype: Literal["float32", "float16"] = "float32"  # of the vectors on disk


class CanarySettings(Settings):
    """What a new pair must show before it serves."""

    split: str | None = "dev"  # judged queries; None, or a split that is not there: the documents themselves
    queries: PositiveInt = 200  # that are asked, drawn with `seed`
    documents: PositiveInt = 100  # that must find themselves
    seed: NonNegativeInt = 0
    self_retrieval: float = Field(0.95, ge=0.0, le=1.0)  # share of documents among their own first ten
    drop: float = Field(0.05, ge=0.0, le=1.0)  # of nDCG@10 and recall, against the live pair
    overlap: float = Field(0.9, ge=0.0, le=1.0)  # of the first ten with the live pair's, if of one model
    latency_ratio: PositiveFloat = 5.0  # times the live pair's search
    latency_floor: PositiveFloat = 0.02  # seconds a query; what is faster is fast enough, whatever the ratio
    rounds: PositiveInt = 5  # of the timing, in turns; their median counts


class IndexingSettings(Settings):
    """Everything one run of the indexing is told; ``parameters:`` of the YAML."""

    # Run configuration of the training: its collection is indexed, its registered model encodes.
    training: str = "configs/demo.yaml"
    live: str | None = None  # folder of the live store; None: $LLARA_LOCAL/live/<registered model>
    index: IndexShapeSettings = IndexShapeSettings()
    canary: CanarySettings = CanarySettings()
    again: bool = False  # also a pair that was rolled back

    def trained(self, root: Path) -> TrainingSettings:
        """The settings of the training.

        Args:
            root: the checkout, where a relative path is looked for if the working folder has none.

        Raises:
            ConfigError: the file is missing or broken, or holds an unknown setting.
        """
        path = configuration(self.training, root)
        return TrainingSettings.parse(load_yaml(path).get("parameters"), f"{path}: parameters")
