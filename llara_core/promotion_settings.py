"""Settings of the promotion gate: when the alias ``champion`` moves (issue 6, point 1).

Scores are nDCG@10 or another metric in [0, 1], so gains and margins are in that unit too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from typing_extensions import Self

from llara_core.settings import Settings

if TYPE_CHECKING:
    from llara_core.config import CollectionSettings

Metric = Literal["ndcg_at_10", "mrr_at_10", "recall_at_100", "map_at_100"]
LeakFreeSubset = Literal["no_near_duplicate", "unseen_documents"]


class GuardSettings(Settings):
    """A collection that a new champion must not forget; the keys are those of ``collection``."""

    source: str = Field(min_length=1)
    name: str | None = None
    format: str = "auto"
    columns: dict[str, str] = Field({})
    revision: str | None = None
    unresolved_share: float = Field(0.0, ge=0.0, le=1.0)
    split: str = "test"
    margin: PositiveFloat | None = None  # a loss up to here is accepted; None: ``promote.margin``

    @property
    def collection(self) -> CollectionSettings:
        """The place as settings of a collection."""
        from llara_core.config import CollectionSettings

        return CollectionSettings(**self.model_dump(exclude={"split", "margin"}))


class LimitSettings(Settings):
    """What a new champion may cost; None: no limit. Ratios are to the present champion."""

    # Encoding one query, on the machine that runs the gate; the best of several rounds, in turns.
    latency_ratio: PositiveFloat | None = 2.0
    latency_ms: PositiveFloat | None = None
    size_ratio: PositiveFloat | None = 2.0  # bytes of the bundle's files
    size_mb: PositiveFloat | None = None  # megabytes (10^6 bytes) of the bundle's files
    dimension: PositiveInt | None = None  # numbers a vector: what the index and every search cost
    # Mean cosine of pairs of passages: near 1 all texts have one vector, and nothing can be told apart.
    cosine: float | None = Field(0.95, ge=-1.0, le=1.0)


class ArmSettings(Settings):
    """When the adapted arm is the challenger; otherwise the unadapted one is."""

    level: float = Field(0.05, gt=0.0, lt=1.0)  # of the paired test between the two arms
    minimum_gain: NonNegativeFloat = 0.0


class PromoteSettings(Settings):
    """When the alias ``champion`` moves."""

    metric: Metric = "ndcg_at_10"
    # Of the paired randomisation test, two-sided: without a true gain one version in 400 gets through.
    level: float = Field(0.005, gt=0.0, lt=1.0)
    minimum_gain: NonNegativeFloat = 0.005  # a smaller gain is not worth a new index
    minimum_queries: PositiveInt = 100  # fewer cannot tell
    # Only queries of these subsets count, where the collection leaks; empty: all queries, leaked or not.
    leak_free: tuple[LeakFreeSubset, ...] = ("no_near_duplicate", "unseen_documents")
    guards: tuple[GuardSettings, ...] = ()
    margin: PositiveFloat = 0.05  # greatest loss on a guarded collection that is accepted
    guard_level: float = Field(0.05, gt=0.0, lt=0.5)  # chance to accept a loss as great as the margin
    bm25_level: float = Field(0.05, gt=0.0, lt=1.0)  # of the paired test against BM25, two-sided
    # Why a model that does not beat BM25 may become champion all the same; a sentence for the record.
    without_bm25: str | None = Field(None, min_length=10)
    limits: LimitSettings = LimitSettings()
    adaptation: ArmSettings = ArmSettings()

    @property
    def choosing(self) -> PromoteSettings:
        """The settings by which an arm is chosen, the others at their defaults.

        What else the gate asks for must not make a version be registered again.
        """
        return PromoteSettings(metric=self.metric, leak_free=self.leak_free, adaptation=self.adaptation)

    @model_validator(mode="after")
    def _guards_have_names_of_their_own(self) -> Self:
        names = [guard.name or guard.source for guard in self.guards]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"guards: {', '.join(twice)} stands there twice; give each a name of its own")
        return self
