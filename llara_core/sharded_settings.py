"""Settings of the sharded pipeline: a corpus encoded, and negatives mined, by many pods."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from llara_core.config import Bm25Settings, CollectionSettings, MineSettings
from llara_core.settings import Settings


class ShardSettings(Settings):
    """Into how many parts the work is cut; neither number changes a byte of the result."""

    # Of the corpus, in whole blocks of 16,384 passages; fewer where it has fewer blocks.
    encoding: PositiveInt = 8
    mining: NonNegativeInt = 4  # of the queries; 0: nothing is mined


class ShardedSettings(Settings):
    """Everything one run of the sharded pipeline is told; ``parameters:`` of the YAML."""

    seed: NonNegativeInt = 0
    collection: CollectionSettings = CollectionSettings()
    # A version of the registry by alias or number (models:/NAME/VERSION), or a folder.
    model: str = Field("models:/llara-retriever@champion", min_length=1)
    vectors: Literal["float32", "float16"] = "float32"  # how they are kept; mining reads float32
    shards: ShardSettings = ShardSettings()
    mine: MineSettings = MineSettings()
    bm25: Bm25Settings = Bm25Settings()
