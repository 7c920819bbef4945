"""Options that several commands share, and what they are turned into: settings and a collection."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml

from llara_core.config import CollectionSettings, TrainingSettings
from llara_core.data import quality
from llara_core.data.collection import Collection
from llara_core.data.formats import has_judgements, load_collection, open_collection, open_source
from llara_core.data.strict import strict_collection
from llara_core.errors import ConfigError
from llara_core.settings import load_yaml, nearest

logger = logging.getLogger(__name__)

# The keys of a ZenML run configuration; ZenML ignores unknown ones silently, which hides a misspelling.
RUN_KEYS = frozenset(
    [
        "build",
        "cache_policy",
        "cleanup_hook_source",
        "enable_artifact_metadata",
        "enable_artifact_visualization",
        "enable_cache",
        "enable_heartbeat",
        "enable_pipeline_logs",
        "enable_step_logs",
        "end_hook_source",
        "environment",
        "execution_mode",
        "extra",
        "failure_hook_source",
        "init_hook_kwargs",
        "init_hook_source",
        "model",
        "parameters",
        "pause_hook_source",
        "resume_hook_source",
        "retry",
        "run_name",
        "schedule",
        "secrets",
        "settings",
        "start_hook_source",
        "steps",
        "substitutions",
        "success_hook_source",
        "tags",
    ]
)

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="YAML whose `parameters:` hold the settings, e.g. configs/demo.yaml."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change one setting, e.g. adapt.steps=20; may be repeated."
    ),
]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed; default: the settings' own.")]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|FILE|ZIP|URL|ID|pycode",
        help="What `llara data ingest` wrote, any format of `llara data formats`, or the built-in "
        "collection; default: the settings'.",
    ),
]
Device = Annotated[str | None, typer.Option(help="E.g. cpu or cuda:1; default: CUDA where there is one.")]


def read_settings(
    config: Path | None, overrides: list[str] | None, seed: int | None = None
) -> TrainingSettings:
    """The settings of a run configuration, with overrides.

    Args:
        config: YAML with ``parameters:``; None: the defaults.
        overrides: ``dotted.key=value``, the value read as YAML.
        seed: overrides the settings' seed.

    Raises:
        ConfigError: the file is missing, or a key or value is unusable; names the nearest known key.
    """
    values = read_values(config, overrides)
    if seed is not None:
        values["seed"] = seed
    return TrainingSettings.parse(values, "" if config is None else "parameters")


def read_values(config: Path | None, overrides: list[str] | None) -> dict[str, Any]:
    """What stands under ``parameters:`` of a run configuration, with overrides, not yet checked.

    Args:
        config: YAML with ``parameters:``; None: nothing.
        overrides: ``dotted.key=value``, the value read as YAML.

    Raises:
        ConfigError: the file is missing, or has a key that no run configuration has.
    """
    values: dict[str, Any] = {}
    if config is not None:
        document = load_yaml(config)
        for key in document:
            if key not in RUN_KEYS:
                raise ConfigError(f"{config}: {key}: unknown setting{_nearest_key(str(key))}")
        values = document.get("parameters") or {}
        if not isinstance(values, dict):
            raise ConfigError(f"{config}: parameters: expected a mapping of settings, got {values!r}")
    own_model = "model" in values
    for override in overrides or []:
        _override(values, override)
    model = values.get("model")
    if not own_model and isinstance(model, dict) and not {"base", "from_scratch"} & model.keys():
        model["from_scratch"] = {}  # the default model is what an override like model.template changes
    return values


def read_data(
    data: str | None, settings: TrainingSettings, labels: Literal["needed", "optional", "unused"] = "needed"
) -> Collection:
    """The collection that ``--data`` names, or else the settings; its rows are checked.

    Args:
        data: a place in any of ``formats.FORMATS``, or ``pycode``; None: ``settings.collection``.
        settings: of the run.
        labels: whether queries and judgements are read; ``optional``: if the folder has qrels.

    Raises:
        DataError: a file is missing, a row is malformed or a critical rule is broken.
    """
    chosen = settings.collection
    if data is not None and data != chosen.source:
        # Another place has columns and a revision of its own; what is said about rows stays.
        own: dict[str, Any] = {"source": data, "name": None, "format": "auto", "columns": {}}
        chosen = chosen.model_copy(update=own | {"revision": None})
    collection = _read(chosen, labels)
    quality.check(collection)
    logger.info(
        "%s: %d documents, %d queries",
        collection.name,
        collection.corpus.num_rows,
        collection.queries.num_rows,
    )
    return collection


def _read(chosen: CollectionSettings, labels: Literal["needed", "optional", "unused"]) -> Collection:
    place = chosen.place
    if place is None:
        return load_collection(chosen)
    unlabelled = labels == "optional" and not has_judgements(place)
    corpus_only = unlabelled or labels == "unused"
    if chosen.format == "auto" and not chosen.columns and chosen.revision is None:
        opened = open_collection(place, chosen.name, corpus_only=corpus_only)
    else:
        opened = strict_collection(open_source(chosen, corpus_only=corpus_only))
    name = chosen.name or opened.name
    return replace(opened, name=name, unresolved_share=chosen.unresolved_share)


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise ConfigError(f"--set {override}: expected KEY=VALUE, e.g. adapt.steps=20")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: {text!r} is not a YAML value; put it into quotes") from None
    target = values
    for part in path[:-1]:
        inner = target.get(part)
        target[part] = dict(inner) if isinstance(inner, dict) else {}
        target = target[part]
    target[path[-1]] = value


def _nearest_key(key: str) -> str:
    if key in TrainingSettings.model_fields:
        return f"; settings stand under `parameters:`, so write parameters.{key}"
    return nearest(key, sorted(RUN_KEYS))
