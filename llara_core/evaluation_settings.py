"""Settings of the evaluation pipeline: which versions are judged, and on which collections.

Beside ``config`` rather than in it: every training step reads that file, and a new setting of the
evaluation must not make them run again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator
from typing_extensions import Self

from llara_core.config import REGISTRY, Bm25Settings, CollectionSettings
from llara_core.settings import Settings

BM25 = "bm25"  # the word for the lexical baseline
_IN_KEYS = re.compile(r"[^A-Za-z0-9_.-]+")  # what a name that we derive does not hold
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")  # what MLflow takes in a key, and a folder as a name


class JudgedModel(Settings):
    """One of the systems: a registered version, a bundle folder, or ``bm25``."""

    model: str = Field(min_length=1)  # models:/NAME@ALIAS, models:/NAME/VERSION, FOLDER or bm25
    name: str | None = None  # in tables and metric keys; None: NAME-vVERSION, the folder's name, or bm25

    @property
    def label(self) -> str:
        """A name known before the registry is asked; the same for two references to one version."""
        if self.name is not None:
            return self.name
        if self.model.startswith(REGISTRY):
            return in_keys(self.model.removeprefix(REGISTRY))
        return self.model if self.model == BM25 else in_keys(Path(self.model).expanduser().name)


class JudgedCollection(CollectionSettings):
    """One of the collections: what ``collection`` takes, and how this one is judged.

    The source may also be a public set of BEIR by name (``beir:scifact``, looked for below
    ``$LLARA_BEIR``, otherwise on the hub); ``cqadupstack`` stands for its twelve forums.
    """

    split: str | None = None  # None: the one that papers report on a public set, else the evaluation's
    bm25: Bm25Settings | None = None  # None: those that the evaluation names

    @property
    def plain(self) -> CollectionSettings:
        """The same without what says how it is judged."""
        return CollectionSettings(
            **{field: getattr(self, field) for field in CollectionSettings.model_fields}
        )


class EvaluationSettings(Settings):
    """Everything one run of the evaluation pipeline is told; ``parameters:`` of the YAML.

    A model or a collection may be given as a word or a path alone (``bm25``, ``pycode``, a folder).
    """

    seed: NonNegativeInt = 0  # of intervals and tests
    models: tuple[JudgedModel, ...] = Field(min_length=1)  # the first is what the others are compared with
    collections: tuple[JudgedCollection, ...] = Field(min_length=1)
    split: str = "test"
    metric: Literal["ndcg_at_10", "mrr_at_10", "recall_at_100", "map_at_100"] = "ndcg_at_10"  # compared by
    depth: PositiveInt = Field(100, ge=100)  # recall@100 and MAP@100 need it
    vectors: Literal["float32", "float16"] = "float32"  # how passages' vectors are kept; float16 halves them
    bm25: Bm25Settings = Bm25Settings()

    @field_validator("models", mode="before")
    @classmethod
    def _plain_models(cls, value: Any) -> Any:
        return _mappings(value, "model")

    @field_validator("collections", mode="before")
    @classmethod
    def _plain_collections(cls, value: Any) -> Any:
        return _mappings(value, "source")

    @model_validator(mode="after")
    def _usable_names(self) -> Self:
        check_names("models", [one.label for one in self.models])
        check_names("collections", [one.name for one in self.collections if one.name is not None])
        return self


def check_names(kind: str, names: Sequence[str]) -> None:
    """Refuse names that cannot stand in a metric key, or that stand for two things.

    Args:
        kind: ``models`` or ``collections``, for the message.
        names: as given or derived.

    Raises:
        ValueError: says which name, and what to do.
    """
    for name in names:
        if _NAME.fullmatch(name) is None or ".." in name:
            raise ValueError(
                f"{kind}: the name {name!r} cannot stand in a metric key; use letters, digits and _ . - /"
            )
        if names.count(name) > 1:
            raise ValueError(f"two {kind} are called {name!r}; give each a name of its own (name: …)")


def in_keys(name: str) -> str:
    """The name with ``-`` for every run of characters that MLflow allows in no key."""
    return _IN_KEYS.sub("-", name).strip("-") or "unnamed"


def _mappings(value: Any, key: str) -> Any:
    """Words among the entries as mappings; anything else is left for the validation to judge."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return value
    return [{key: one} if isinstance(one, str) else one for one in value]
