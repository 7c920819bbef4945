"""Settings of mining: where candidates come from, what is left out, and who may object."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator
from typing_extensions import Self

from llara_core.settings import Settings

_SUM_TOLERANCE = 1e-6


class ShareSettings(Settings):
    """What part of a query's negatives each source gives; they add up to 1."""

    bm25: NonNegativeFloat = 0.5
    dense: NonNegativeFloat = 0.5
    random: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.bm25 + self.dense + self.random
        if abs(total - 1) > _SUM_TOLERANCE:
            raise ValueError(f"the shares of bm25, dense and random must add up to 1; they give {total:g}")
        return self


class VetoSettings(Settings):
    """A teacher that reads query and passage together, or a second retriever, and may object to a negative.

    Like the miner's own filter, against the teacher's score of the query's best positive: a candidate above
    `share` of it, or less than `distance` below it, is left out.
    """

    model: str  # a cross-encoder or a bundle of ours: a folder, or a Hugging Face id
    revision: str | None = None
    trust_remote_code: bool = False
    share: float = Field(0.95, gt=0.0, le=1.0)
    distance: NonNegativeFloat = 0.0  # in the teacher's own score: a cross-encoder's lies between 0 and 1
    max_length: PositiveInt = 512  # tokens of query and passage together, of a cross-encoder
    batch_size: PositiveInt = 32  # pairs scored at once; a batch never holds pairs of two queries


class MineSettings(Settings):
    """Hard negatives from BM25, from the model's own search, and at random."""

    split: str = "train"
    rounds: PositiveInt = 1  # of the pipeline: mine, fine-tune, mine again with what came out, fine-tune, …
    queries: PositiveInt | None = None  # mined for this many, drawn by the seed; None: for all
    negatives: PositiveInt = 8  # kept per query
    bm25_depth: NonNegativeInt = 50
    dense_depth: NonNegativeInt = 50
    random_depth: NonNegativeInt = 0  # passages drawn per query, by the seed
    skip_top: NonNegativeInt = 0  # ranks left out at the top of each list
    bm25_skip: NonNegativeInt | None = None  # the same for one list; None: skip_top
    dense_skip: NonNegativeInt | None = None
    shares: ShareSettings | None = None  # of each source; None: the lists take turns, rank by rank
    # The model's score is at most this share of the positive's; None: by rank alone, whatever the scores.
    positive_margin: float | None = Field(0.95, gt=0.0, le=1.0)
    positive_distance: NonNegativeFloat = 0.0  # and at least this much below it
    positive_reference: Literal["best", "mean", "worst"] = "best"  # of a query's several positives
    take_back: bool = True  # where too few remain, what the two filters above left out, lowest score first
    near_duplicate: float | None = Field(0.8, gt=0.0, le=1.0)  # word-set Jaccard with a positive; None: off
    veto: VetoSettings | None = None  # a teacher's objections

    @model_validator(mode="after")
    def _shares_have_sources(self) -> Self:
        for source in ("bm25", "dense", "random"):
            part = getattr(self.shares, source, 0.0)
            if part and not getattr(self, f"{source}_depth"):
                raise ValueError(
                    f"shares.{source} is {part:g} and {source}_depth is 0; give it a depth, or share 0"
                )
        if self.positive_margin is None and self.positive_distance:
            raise ValueError("positive_distance needs positive_margin; 1.0 leaves all to the distance")
        return self
