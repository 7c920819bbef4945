"""The model that a command is given: a folder, or a version of the model registry."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from llara_core.config import REGISTRY
from llara_core.errors import ConfigError
from llara_core.evaluation_settings import in_keys

logger = logging.getLogger(__name__)
WHERE = "FOLDER|models:/NAME@ALIAS"  # what commands show for a model; a number in place of an alias: /NUMBER
_Model = TypeVar("_Model", str, Path, None)


def local(model: _Model) -> _Model:
    """The folder of a model on this machine; what lies in the registry is fetched first.

    An alias is asked once a command, so that a new champion is never taken in the middle.

    Args:
        model: a folder or any other word, which is returned as it is, or ``models:/NAME@ALIAS`` or
            ``models:/NAME/NUMBER``.

    Raises:
        ConfigError: the reference is neither, or the registry has no such version or does not answer.
        MissingDependencyError: the package of the registry is not installed.
        ModelError: the version is damaged, or holds no bundle of ours.
    """
    if model is None or not str(model).startswith(REGISTRY):
        return model
    from llara_core.model.registries import REFERENCE, fetch

    asked = REFERENCE.fullmatch(str(model))
    if asked is None:
        raise ConfigError(
            f"{model}: expected {REGISTRY}NAME@ALIAS or {REGISTRY}NAME/NUMBER, "
            f"e.g. {REGISTRY}llara-retriever@champion"
        )
    source = fetch(asked["name"], alias=asked["alias"] or "", version=asked["number"], tracking_uri=None)
    if source.folder is None:
        raise ConfigError(f"{model}: the registry has no files of it on this machine")
    logger.info("%s: %s, in %s", model, source, source.folder)
    return type(model)(source.folder)


def name_of(model: str) -> str:
    """What a model is called in tables and folders, unless the user says: its folder, or name and version."""
    if model.startswith(REGISTRY):
        return in_keys(model.removeprefix(REGISTRY))
    return Path(model).expanduser().resolve().name


Bundle = Annotated[
    Path,
    typer.Option(
        "--model", metavar=WHERE, callback=local, help="Bundle folder, or a version of the model registry."
    ),
]
