"""The systems that commands name: a bundle, or the lexical baseline ``bm25``."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llara_core.cli.models import WHERE
from llara_core.config import TrainingSettings
from llara_core.data.collection import Collection

if TYPE_CHECKING:
    from llara_core.evaluation.beir import System
    from llara_core.model.retriever import Retriever

BM25 = "bm25"
Model = Annotated[
    str,
    typer.Option(
        metavar=f"{WHERE}|bm25", help="Bundle folder, version of the model registry, or the lexical baseline."
    ),
]


def check_model(model: str) -> None:
    """Refuse a folder that is no bundle before any data is read."""
    from llara_core.model.bundle import read_bundle

    if model != BM25:
        read_bundle(Path(model).expanduser())


def system_fingerprint(model: str, settings: TrainingSettings) -> str:
    """What changes when anything does that could change the system's answers; weights are not loaded."""
    from llara_core.model.bundle import read_bundle

    if model == BM25:
        told = settings.evaluate.bm25.model_dump_json()
        return f"{BM25}-{hashlib.sha256(told.encode()).hexdigest()}"
    kept = settings.evaluate.vectors
    found = read_bundle(Path(model).expanduser()).fingerprint
    return found if kept == "float32" else f"{found}-{kept}"


def open_system(
    model: str,
    collection: Collection,
    settings: TrainingSettings,
    device: str | None,
    cache: Path | None = None,
) -> System:
    """The system over a collection, its vectors from the cache or encoded now; a model is loaded once."""
    from llara_core.evaluation.beir import Bm25System, DenseSystem

    if model == BM25:
        return Bm25System(collection, settings.evaluate.bm25)
    return DenseSystem(model, _retriever(model, device), collection, cache, dtype=settings.evaluate.vectors)


@lru_cache(maxsize=1)
def _retriever(model: str, device: str | None) -> Retriever:
    from llara_core.model.retriever import Retriever

    return Retriever.from_pretrained(model, device)
