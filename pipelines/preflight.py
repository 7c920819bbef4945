"""Look before the leap: what would stop a run after minutes stops it in the first second."""

from __future__ import annotations

import os
from pathlib import Path

from llara_core.config import (
    REGISTRY,
    AdaptationSettings,
    CollectionSettings,
    ModelSettings,
    TrainingSettings,
)
from llara_core.data.hub import repository_id
from llara_core.errors import ConfigError, DataError, ModelError
from llara_core.evaluation_settings import BM25, EvaluationSettings
from llara_core.files import check_writable
from llara_core.sharded_settings import ShardedSettings
from pipelines.judged import judged_collections

_FIX = "give model.base the folder or id of a decoder"
_Settings = TrainingSettings | AdaptationSettings | EvaluationSettings | ShardedSettings


def check(settings: _Settings, local: Path) -> None:
    """Data folders or text, model folders and the folder for results.

    Raises:
        ConfigError: a path names an environment variable that is not set.
        DataError: a data file is missing, or the local folder cannot be written.
        ModelError: a model folder holds no model.
    """
    check_writable(local / "work" / "probe")
    if isinstance(settings, EvaluationSettings):
        for judged in judged_collections(settings):
            _data(judged.settings, "collections")
        for one in settings.models:
            if one.model != BM25 and not one.model.startswith(REGISTRY):
                _bundle(one.model)
        return
    if isinstance(settings, ShardedSettings):
        _data(settings.collection, "collection.source")
        if not settings.model.startswith(REGISTRY):
            _bundle(settings.model)
        return
    if isinstance(settings, AdaptationSettings):
        _text(settings)
    else:
        _data(settings.collection, "collection.source")
    _model(settings.model)


def check_indexing(settings: TrainingSettings, local: Path) -> None:
    """What an indexing needs of its training's settings: the data; the model comes from the registry.

    Raises:
        ConfigError: a path names an environment variable that is not set.
        DataError: a data file is missing, or the local folder cannot be written.
    """
    check_writable(local / "live" / "probe")
    _data(settings.collection, "collection.source")


def check_champion(name: str) -> None:
    """That a registered model has a champion; the environment must be set before.

    Raises:
        ConfigError: the registry cannot be reached, or has none.
    """
    _reference(f"{REGISTRY}{name}@champion", "indexing", "train one first: make run")


def check_registry(settings: _Settings) -> None:
    """Where the settings refer to the model registry: that it answers and has the version.

    The environment must be set before (``environment.apply``), since it says which registry is meant.

    Raises:
        ConfigError: the registry cannot be reached, or has no such model, alias or version.
    """
    if isinstance(settings, EvaluationSettings):
        for one in settings.models:
            _reference(one.model, "models", "train one first: make run")
    elif isinstance(settings, ShardedSettings):
        _reference(settings.model, "model", "train one first: make run")
    elif settings.model.base is not None:
        advice = "run the adaptation pipeline first: python -m pipelines adaptation"
        _reference(settings.model.base, "model.base", advice)


def _reference(reference: str, where: str, advice: str) -> None:
    if not reference.startswith(REGISTRY):
        return
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    database = Path(tracking.removeprefix("sqlite:///"))
    if tracking.startswith("sqlite:///") and not database.exists():  # MLflow would make an empty one
        raise ConfigError(
            f"{where}: {reference}: nothing is registered yet ({database} does not exist); {advice}"
        )
    from steps import registry

    registry.find(reference, where)


def _data(settings: CollectionSettings, where: str) -> None:
    """What can be told of a collection without reading more than its first rows.

    Neither the hub nor another machine is asked: what is wrong there is told by the first step.
    """
    place, folder = settings.place, settings.folder
    if place is None or folder is None or "://" in place or repository_id(place) is not None:
        return
    if not folder.exists() and ".zip" not in place:
        raise DataError(
            f"no such folder; {where} names a place in one of the formats that `llara data formats` lists, "
            "a Hugging Face id, or pycode",
            file=folder,
        )
    from llara_core.data.intake import open_whole

    open_whole(settings)


def _text(settings: AdaptationSettings) -> None:
    from llara_core.data.text_folder import text_files

    if not settings.adapt.steps:
        raise ConfigError("adapt.steps: got 0; an adaptation takes at least one step")
    if (path := settings.text.path) is not None:
        text_files(path)


def _model(settings: ModelSettings) -> None:
    """A folder must hold a configuration and weights; an id is left to the loader."""
    if settings.base is None or settings.base.startswith(REGISTRY):
        return
    folder = Path(settings.base).expanduser()
    looks_like_path = folder.is_absolute() or settings.base.startswith((".", "~"))
    if not folder.exists() and not looks_like_path:
        return
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: no config.json in it, so no Hugging Face model; {_FIX}")
    if not any(folder.glob("*.safetensors")):
        from llara_core.model.loading import no_weights

        raise ModelError(f"{folder}: {no_weights(folder)}; {_FIX}")


def _bundle(model: str) -> None:
    """A folder that is judged must be a bundle of ours."""
    from llara_core.model.bundle import read_bundle

    try:
        read_bundle(Path(model).expanduser())
    except ModelError as error:
        raise ModelError(f"models: {error}") from None
