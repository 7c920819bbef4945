"""The MLflow model registry, as far as the steps use it: versions, aliases and what their tags say."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llara_core.config import REGISTRY
from llara_core.errors import ConfigError, ModelError
from llara_core.model.bundle import CARD_NAME

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
REASON = "promotion_reason"  # tag of a version
VERDICT = "llara.verdict"  # tag of a version: all checks of the gate, as JSON
ROLLED_BACK = "llara.rolled_back"  # tag of a version: why it was taken back, so that nothing brings it back
_MOVING = "llara.moving_champion"  # tag of a model while its aliases move: {"to": number, "from": number}
_OF_ONE_RUN = ("mlflow_run_id", "environment", "git_commit")  # tags that differ between runs of one command
SCHEME = REGISTRY  # how a reference begins: models:/NAME@ALIAS or models:/NAME/VERSION
_REFERENCE = re.compile(rf"{SCHEME}(?P<name>[^/@#]+)(?:@(?P<alias>[^/@#]+)|/(?P<number>[0-9]+))")
LIBRARY = Path(__file__).resolve().parents[1] / "llara_core"
# What a serving environment installs; the library itself travels with the model as code.
_REQUIREMENTS = (
    "accelerate", "mlflow", "numpy", "pandas", "peft", "pyarrow", "pydantic", "pyyaml", "rich", "safetensors",
    "tokenizers", "torch", "transformers", "typing-extensions",
)  # fmt: skip


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

    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "text"), ColSpec(DataType.string, "kind", required=False)]),
        outputs=Schema([TensorSpec(np.dtype("float32"), (-1, dimension))]),
    )
    example = pd.DataFrame({"text": ["open a file", "def load(path): ..."], "kind": ["query", "passage"]})
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


def version_of(name: str, alias: str) -> Any | None:
    """The version behind an alias, or None."""
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        return mlflow.MlflowClient().get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def versions_of(name: str) -> list[Any]:
    """All versions of a registered model, newest first; [] where there is none."""
    import mlflow

    found = mlflow.MlflowClient().search_model_versions(f"name = '{name}'")
    return sorted(found, key=lambda one: int(one.version), reverse=True)


def score_of(model_version: Any, metric: str) -> Score | None:
    """What the version's tags say about a metric, or None when it was not registered by us."""
    tags = model_version.tags
    try:
        return Score(float(tags[metric]), tags["collection"], tags["data_hash"], tags["split"])
    except (KeyError, ValueError):
        return None


def find(reference: str, where: str = "model.base") -> Any:
    """The version that ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION`` means at this moment.

    Args:
        reference: what the user wrote.
        where: the setting that holds it, for messages.

    Raises:
        ConfigError: the reference is neither, the registry cannot be reached, or it has no such model,
            alias or version; names those that it has.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise ConfigError(
            f"{where}: {reference!r}: expected {SCHEME}NAME@ALIAS or {SCHEME}NAME/VERSION, "
            f"e.g. {SCHEME}llara-adapted@champion"
        )
    name = match["name"]
    try:
        client = mlflow.MlflowClient()
        names = sorted(one.name for one in client.search_registered_models())
        versions = client.search_model_versions(f"name = '{name}'") if name in names else []
        model = client.get_registered_model(name) if name in names else None
    except (MlflowException, OSError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"{where}: {reference}: the registry at {mlflow.get_tracking_uri()} cannot be asked "
            f"({first_line}); set MLFLOW_TRACKING_URI to one that answers"
        ) from error
    if model is None:
        known = f"it has: {', '.join(names)}" if names else "it has none; run a pipeline that registers it"
        raise ConfigError(f"{where}: {reference}: the registry has no model {name!r} ({known})")
    number = match["number"] or model.aliases.get(match["alias"])
    found = next((one for one in versions if str(one.version) == str(number)), None)
    if found is None:
        aliases = ", ".join(f"@{alias} (version {one})" for alias, one in sorted(model.aliases.items()))
        numbers = ", ".join(sorted((str(one.version) for one in versions), key=int))
        raise ConfigError(
            f"{where}: {reference}: {name} has no such {'version' if match['number'] else 'alias'}; "
            f"aliases: {aliases or 'none'}; versions: {numbers or 'none'}"
        )
    return found


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
    """The model folder of a version, in place or downloaded.

    Raises:
        ModelError: the version holds no bundle of ours.
    """
    import mlflow

    model = Path(mlflow.artifacts.download_artifacts(f"{SCHEME}{name}/{number}"))
    found = sorted((model / "artifacts").glob(f"*/{CARD_NAME}"))
    if not found:
        raise ModelError(
            f"{SCHEME}{name}/{number}: holds no bundle of ours (no artifacts/*/{CARD_NAME}); expected a "
            "version that one of our pipelines registered. Give another model as a folder: model.base: FOLDER"
        )
    return found[0].parent


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


def rolled_back(name: str, number: str, fingerprint: str) -> str | None:
    """Why a version, or another with the same weights, was taken back; None where none was.

    Args:
        name: of the registered model.
        number: of the version.
        fingerprint: of its bundle, as its tag says.
    """
    import mlflow

    for one in mlflow.MlflowClient().search_model_versions(f"name = '{name}'"):
        reason = one.tags.get(ROLLED_BACK)
        if reason is not None and (
            str(one.version) == str(number) or one.tags.get("fingerprint") == fingerprint
        ):
            which = "it" if str(one.version) == str(number) else f"version {one.version}, the same model,"
            return f"{which} was rolled back ({reason})"
    return None
