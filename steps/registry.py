"""The MLflow model registry, as the steps use it: what ``llara_mlflow`` reads, and what they write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llara_mlflow import cache
from llara_mlflow.versions import (
    ROLLED_BACK,
    SCHEME,
    find,
    rolled_back,
    version_of,
    versions_of,
    without_secrets,
)

__all__ = [
    "CHALLENGER", "CHAMPION", "PREVIOUS", "REASON", "ROLLED_BACK", "SCHEME", "VERDICT", "Score",
    "bundle_of", "find", "finish_move", "log_version", "move_champion", "registry_is_mlflow",
    "requirements", "rolled_back", "score_of", "version_of", "versions_of",
]  # fmt: skip

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
REASON = "promotion_reason"  # tag of a version
VERDICT = "llara.verdict"  # tag of a version: all checks of the gate, as JSON
_MOVING = "llara.moving_champion"  # tag of a model while its aliases move: {"to": number, "from": number}
_OF_ONE_RUN = ("mlflow_run_id", "environment", "git_commit")  # tags that differ between runs of one command
LIBRARY = Path(__file__).resolve().parents[1] / "llara_core"
# What a serving environment installs; the library itself travels with the model as code.
_REQUIREMENTS = (
    "accelerate", "mlflow", "numpy", "pandas", "peft", "pyarrow", "pydantic", "pyyaml", "rich", "safetensors",
    "tokenizers", "torch", "transformers", "typing-extensions",
)  # fmt: skip
# Of one request to MLflow's server; 0: none. Others are given by MLflow's model_config where a model is
# loaded, or by SERVING_MODEL_CONFIG='{"max_texts": 10000}' before `mlflow models serve`.
SERVED_LIMITS = {
    "max_texts": 2048,  # half a second's work for a small model on two cores, a minute's for a large one
    "max_characters": 100_000,  # of one text with its title: whatever the model reads, all is tokenised
}


@dataclass(frozen=True)
class Score:
    """What a version is judged by.

    Args:
        value: of the promotion metric.
        collection: name of the collection it was judged on.
        data_hash: content hash of that collection.
        split: of that collection.
    """

    value: float
    collection: str
    data_hash: str
    split: str


def registry_is_mlflow() -> bool:
    """Whether the active stack has an MLflow model registry."""
    from zenml.client import Client

    registry = Client().active_stack.model_registry
    return registry is not None and registry.flavor == "mlflow"


def requirements() -> list[str]:
    """Pinned requirements of the served model; given, so that MLflow does not load the model to guess."""
    return [f"{name}=={version(name).split('+')[0]}" for name in _REQUIREMENTS]


def log_version(name: str, bundle: Path, dimension: int, tags: Mapping[str, str]) -> str:
    """Log the bundle as a model of the open run and register it.

    Args:
        name: of the registered model.
        bundle: model folder.
        dimension: length of its vectors, D.
        tags: of the version.

    Returns:
        the number of the version, which also gets the alias ``challenger``. Where a run was killed after it
        had registered this very model, it is that version.
    """
    import mlflow
    import numpy as np
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    optional = [ColSpec(DataType.string, name, required=False) for name in ("kind", "title")]
    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "text"), *optional]),
        outputs=Schema([TensorSpec(np.dtype("float32"), (-1, dimension))]),
    )
    example = pd.DataFrame(
        {
            "text": ["open a file", "def load(path): ..."],
            "kind": ["query", "passage"],
            "title": ["", "load"],
        }
    )
    client = mlflow.MlflowClient()
    number = _left_by_a_killed_run(name, tags)
    if number is None:
        info = mlflow.pyfunc.log_model(
            name="retriever",
            python_model=str(Path(__file__).with_name("serving_model.py")),
            artifacts={"bundle": str(bundle)},
            code_paths=[str(LIBRARY)],
            signature=signature,
            input_example=example,
            model_config=SERVED_LIMITS,
            pip_requirements=requirements(),
        )
        # Only now, and with all of its tags in one transaction: no version is ever seen half-written.
        number = str(mlflow.register_model(info.model_uri, name, tags=dict(tags)).version)
    client.set_registered_model_alias(name, CHALLENGER, number)
    return number


def _left_by_a_killed_run(name: str, tags: Mapping[str, str]) -> str | None:
    """The version that a run registered and did not live to tell of: the same in every tag, never judged."""
    same = {key: value for key, value in tags.items() if key not in _OF_ONE_RUN}
    for one in versions_of(name):
        if REASON not in one.tags and all(one.tags.get(key) == value for key, value in same.items()):
            return str(one.version)
    return None


def score_of(model_version: Any, metric: str) -> Score | None:
    """What the version's tags say about a metric, or None when it was not registered by us."""
    tags = model_version.tags
    try:
        return Score(float(tags[metric]), tags["collection"], tags["data_hash"], tags["split"])
    except (KeyError, ValueError):
        return None


def folder_of(place: str) -> Path:
    """The model folder of a place as ``identify_system`` gives it: a version of the registry, or a folder.

    Raises:
        ModelError: the version holds no bundle of ours.
    """
    if not place.startswith(SCHEME):
        return Path(place)
    name, _, number = place.removeprefix(SCHEME).rpartition("/")
    return bundle_of(name, number)


def bundle_of(name: str, number: str) -> Path:
    """The model folder of a version: in place, from the cache, or fetched into it.

    Raises:
        ConfigError: the registry cannot be asked, or has no such version.
        ModelError: the version holds no bundle of ours, or a damaged one.
    """
    import mlflow

    found = find(f"{SCHEME}{name}/{number}", "registry")
    return cache.bundle_of(found, registry=without_secrets(mlflow.get_registry_uri()))


def move_champion(name: str, number: str, former: str | None) -> None:
    """Point ``champion`` to the version, and ``previous`` to the one it replaces.

    Two aliases cannot move at once, so what shall be is written first: killed in between, the next call of
    ``finish_move`` makes it whole.

    Args:
        name: of the registered model.
        number: of the new champion.
        former: of the present one; None where there is none, and ``previous`` stays as it is.
    """
    import mlflow

    intent = json.dumps({"to": str(number), "from": None if former is None else str(former)})
    mlflow.MlflowClient().set_registered_model_tag(name, _MOVING, intent)
    finish_move(name)


def finish_move(name: str) -> bool:
    """Finish a move of the champion that was cut off half-way; safe to repeat.

    Whoever reads the aliases to act on them calls this first.

    Returns:
        Whether there was one.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    client = mlflow.MlflowClient()
    try:
        intent = client.get_registered_model(name).tags.get(_MOVING)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    if intent is None:
        return False
    move = json.loads(intent)
    client.set_registered_model_alias(name, CHAMPION, move["to"])
    if move["from"] is not None:
        client.set_registered_model_alias(name, PREVIOUS, move["from"])
    client.delete_registered_model_tag(name, _MOVING)
    return True
