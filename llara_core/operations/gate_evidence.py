"""What the promotion gate is told: scores per query of two models, and what each model costs.

Q is the number of queries of a collection. Source: issue 6, point 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """One collection, on which challenger and champion answered the same queries.

    Args:
        name: of the collection.
        split: that was judged.
        challenger: its scores, [Q] in [0, 1].
        champion: those of the present champion, [Q]; None where there is none.
        bm25: those of the lexical baseline, [Q]; None where it was not judged.
        leak_free: marks of the queries that training has not given away, [Q]; None: all of them.
        margin: greatest loss accepted, for a guarded collection; None: that of the settings.
    """

    name: str
    split: str
    challenger: Scores
    champion: Scores | None = None
    bm25: Scores | None = None
    leak_free: NDArray[np.bool_] | None = None
    margin: float | None = None

    def __post_init__(self) -> None:
        """Refuse scores of different queries: a paired test of them would mean nothing.

        Raises:
            ValueError: the arrays differ in shape, are not [Q], or hold what is no number.
        """
        for what in ("challenger", "champion", "bm25", "leak_free"):
            values = getattr(self, what)
            if values is None:
                continue
            if values.ndim != 1 or values.shape != self.challenger.shape:
                raise ValueError(
                    f"{self.name}: {what} has shape {values.shape}, the challenger {self.challenger.shape}; "
                    "expected [Q], one score for each of the same queries"
                )
            if what != "leak_free" and not np.isfinite(values).all():
                raise ValueError(f"{self.name}: {what} has scores that are no numbers; expected [0, 1]")

    @property
    def leaks(self) -> bool:
        """Whether training gives any query away."""
        return self.leak_free is not None and not bool(self.leak_free.all())

    def counted(self, scores: Scores) -> Scores:
        """The scores of the queries that count, [≤ Q]."""
        return scores if self.leak_free is None else scores[self.leak_free]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for an artifact."""
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Judged:
        """What ``to_dict`` wrote."""

        def scores(name: str) -> Scores | None:
            return None if values[name] is None else np.array(values[name], np.float64)

        challenger = scores("challenger")
        marks = values["leak_free"]
        return cls(
            name=values["name"],
            split=values["split"],
            challenger=np.zeros(0) if challenger is None else challenger,
            champion=scores("champion"),
            bm25=scores("bm25"),
            leak_free=None if marks is None else np.array(marks, np.bool_),
            margin=values["margin"],
        )


@dataclass(frozen=True)
class Cost:
    """What a model costs, and whether it can tell texts apart.

    Args:
        latency_ms: milliseconds to encode one query.
        size_bytes: of the bundle's files.
        dimension: D, numbers a vector.
        cosine: mean over pairs of passages.
    """

    latency_ms: float
    size_bytes: int
    dimension: int
    cosine: float


@dataclass(frozen=True)
class Evidence:
    """All that the gate decides by.

    Args:
        primary: the collection that the challenger shall be better on.
        cost: of the challenger.
        guards: collections that it must not forget.
        champion_cost: of the present champion; None where there is none.
        champion: its version; None where there is none.
        blocked: why the challenger is refused whatever its scores: it was rolled back, or the champion's
            scores are of another collection. None: nothing blocks it.
    """

    primary: Judged
    cost: Cost
    guards: Sequence[Judged] = field(default=())
    champion_cost: Cost | None = None
    champion: str | None = None
    blocked: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for an artifact."""
        return {
            "primary": self.primary.to_dict(),
            "cost": dict(vars(self.cost)),
            "guards": [one.to_dict() for one in self.guards],
            "champion_cost": None if self.champion_cost is None else dict(vars(self.champion_cost)),
            "champion": self.champion,
            "blocked": self.blocked,
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Evidence:
        """What ``to_dict`` wrote."""
        former = values["champion_cost"]
        return cls(
            primary=Judged.of(values["primary"]),
            cost=Cost(**values["cost"]),
            guards=tuple(Judged.of(one) for one in values["guards"]),
            champion_cost=None if former is None else Cost(**former),
            champion=values["champion"],
            blocked=values["blocked"],
        )
