"""The systems that commands name: a bundle, or the lexical baseline ``bm25``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llara_core.config import TrainingSettings
from llara_core.data.collection import Collection

if TYPE_CHECKING:
    from llara_core.evaluation.beir import System

Model = Annotated[str, typer.Option(metavar="FOLDER|bm25", help="Bundle folder, or the lexical baseline.")]


def check_model(model: str) -> None:
    """Refuse a folder that is no bundle before any data is read."""
    from llara_core.model.bundle import read_bundle

    if model != "bm25":
        read_bundle(Path(model).expanduser())


def open_system(
    model: str,
    collection: Collection,
    settings: TrainingSettings,
    device: str | None,
    cache: Path | None = None,
) -> System:
    """The system over a collection, its vectors from the cache or encoded now."""
    from llara_core.evaluation.beir import Bm25System, DenseSystem

    if model == "bm25":
        return Bm25System(collection, settings.evaluate.bm25)
    from llara_core.model.retriever import Retriever

    return DenseSystem(model, Retriever.from_pretrained(model, device), collection, cache)
