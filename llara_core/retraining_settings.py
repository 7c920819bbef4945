"""Settings of the retraining tick: what is looked at, and from which number on something follows.

Shares and scores lie in [0, 1]; ages are days. Source: issue 6, point 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from typing_extensions import Self

from llara_core.config import REGISTRY, CollectionSettings, TrainingSettings
from llara_core.errors import ConfigError
from llara_core.indexing_settings import IndexingSettings
from llara_core.settings import Settings, configuration, load_yaml


class DocumentSettings(Settings):
    """How much of the corpus may change before something follows."""

    # Of the documents that the live index holds or should hold; above it, the index is refreshed.
    refresh_above: float = Field(0.0, ge=0.0, le=1.0)
    # Of those that the champion was trained on or would be now; above it, a new one is trained.
    train_above: float = Field(0.1, ge=0.0, le=1.0)


class QuerySettings(Settings):
    """What users ask, against what the champion has learnt to answer."""

    log: str | None = None  # the newest queries: a text a line, or JSON lines with `text` or `query`
    reference: str | None = None  # queries of the champion's time, alike; None: those it is trained on
    level: float = Field(0.01, gt=0.0, lt=1.0)  # chance to see a shift where there is none
    minimum_shift: float = Field(0.05, ge=0.0, le=1.0)  # a smaller one is not worth a training
    minimum_queries: PositiveInt = 50  # different ones, on either side; fewer cannot tell
    sample: PositiveInt = Field(1000, ge=10)  # different queries that are compared, on either side
    permutations: PositiveInt = 499
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _level_can_be_reached(self) -> Self:
        if self.level * (self.permutations + 1) < 1:
            raise ValueError(
                f"{self.permutations} permutations cannot reach level {self.level}; give at least "
                f"{round(1 / self.level)} - 1"
            )
        return self


class FreshJudgedSettings(Settings):
    """Judged queries of these days; the keys of a place are those of ``collection``."""

    split: str | None = None  # qrels of the collection, or of `source`; None: there are none
    source: str | None = None  # a collection of its own; None: the one that is trained on
    name: str | None = None
    format: str = "auto"
    columns: dict[str, str] = Field({})
    drop: float = Field(0.05, ge=0.0, le=1.0)  # a loss up to here is accepted
    confidence: float = Field(0.95, gt=0.5, lt=1.0)  # of the interval of the loss
    minimum_queries: PositiveInt = 30

    @model_validator(mode="after")
    def _a_place_has_a_split(self) -> Self:
        if self.source is not None and self.split is None:
            raise ValueError("source is given, so split must say which judgements of it")
        return self

    @property
    def collection(self) -> CollectionSettings | None:
        """The place as settings of a collection; None: the one that is trained on."""
        if self.source is None:
            return None
        return CollectionSettings(
            source=self.source, name=self.name, format=self.format, columns=self.columns
        )


class RetrainingSettings(Settings):
    """Everything one tick is told; ``parameters:`` of the YAML."""

    training: str = "configs/demo.yaml"  # run configuration of the training, and of the data that are watched
    indexing: str | None = "configs/indexing.yaml"  # run configuration of the live index; null: none is kept
    start: Literal["base", "champion"] = "base"  # what a training starts from
    # Settings of the training that are different when it starts from the champion, e.g. fewer steps.
    from_champion: dict[str, Any] = Field({})
    documents: DocumentSettings = DocumentSettings()
    queries: QuerySettings = QuerySettings()
    judged: FreshJudgedSettings = FreshJudgedSettings()
    maximum_age_days: PositiveFloat | None = 90.0  # of the champion; None: it may be of any age

    @classmethod
    def of_parameters(cls, given: Mapping[str, Any]) -> Self:
        """The settings from a pipeline's parameters, where None means the default unless it says something.

        Raises:
            ConfigError: a setting is unknown or out of range.
        """
        says_something = ("indexing", "maximum_age_days")
        kept = {key: value for key, value in given.items() if value is not None or key in says_something}
        return cls.parse(kept, "")

    def training_values(self, root: Path) -> dict[str, Any]:
        """What the training's file holds.

        Args:
            root: the checkout, where a relative path is looked for if the working folder has none.

        Raises:
            ConfigError: the file is missing or broken, or holds an unknown setting.
        """
        path = configuration(self.training, root)
        values = load_yaml(path)
        TrainingSettings.parse(values.get("parameters"), f"{path}: parameters")
        if self.start == "champion":  # a misspelt key is told now, not in the night when it is first used
            TrainingSettings.parse(
                _merged(values.get("parameters") or {}, self.from_champion), "from_champion"
            )
        return values

    def indexing_values(self, root: Path) -> dict[str, Any] | None:
        """What the indexing's file holds; None where no live index is kept.

        Raises:
            ConfigError: the file is missing or broken, holds an unknown setting, or is about another
                registered model than the training.
        """
        if self.indexing is None:
            return None
        path = configuration(self.indexing, root)
        values = load_yaml(path)
        told = IndexingSettings.parse(values.get("parameters"), f"{path}: parameters").trained(root)
        ours, theirs = self.trained(root).registry.model_name, told.registry.model_name
        if ours != theirs:  # told now, not in the night when a tick asks for the first refresh
            raise ConfigError(
                f"indexing: {path} serves the registered model {theirs!r}, the training makes {ours!r}; "
                "name the same run configuration as `training` in both"
            )
        return values

    def trained(self, root: Path) -> TrainingSettings:
        """The settings of the training.

        Raises:
            ConfigError: as ``training_values``.
        """
        return TrainingSettings.parse(self.training_values(root).get("parameters"), "parameters")

    def planned(self, values: Mapping[str, Any], champion: str | None) -> dict[str, Any]:
        """The training's file as it shall run: from base, or from the champion where there is one.

        Args:
            values: what ``training_values`` gave.
            champion: ``models:/NAME/VERSION``; None: there is none.
        """
        if self.start == "base" or champion is None:
            return dict(values)
        if not champion.startswith(REGISTRY):
            raise ConfigError(f"champion: got {champion!r}; expected {REGISTRY}NAME/VERSION")
        parameters = _merged(values.get("parameters") or {}, self.from_champion)
        model = {**(parameters.get("model") or {}), "base": champion}
        model.pop("from_scratch", None)
        return {**values, "parameters": {**parameters, "model": model}}


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values with changes at any depth."""
    result = dict(values)
    for key, change in changes.items():
        present = result.get(key)
        both = isinstance(present, Mapping) and isinstance(change, Mapping)
        result[key] = _merged(present, change) if both and isinstance(present, Mapping) else change
    return result
