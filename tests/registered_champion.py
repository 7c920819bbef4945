"""A tiny model in a registry of the tests' own, registered as the pipelines do it; made once a process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.model.conftest import collection, settings

NAME = "llara-retriever"


@dataclass(frozen=True)
class Champion:
    """What ``champion`` has made.

    Args:
        uri: of the registry.
        base: the bundle that was registered as version 1.
        client: of the registry.
    """

    uri: str
    base: Path
    client: Any


@cache
def champion() -> Champion:
    """Version 1 of ``llara-retriever``, alias ``champion``, with its files in a local store."""
    import mlflow

    from llara_core.model.bundle import read_bundle
    from llara_core.model.prepare import prepare_base
    from steps import registry

    folder = Path(tempfile.mkdtemp(prefix="champion-", dir=tempfile.gettempdir()))
    base = prepare_base(settings(), collection(), folder / "base", seed=0)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with tracking(uri):
        # Named by the run alone: an experiment that is set stays set for all tests of the process.
        experiment = mlflow.create_experiment("llara", artifact_location=(folder / "artifacts").as_uri())
        with mlflow.start_run(experiment_id=experiment):
            tags = {"fingerprint": read_bundle(base).fingerprint}
            number = registry.log_version(NAME, base, 32, tags)
        client = mlflow.MlflowClient(uri, uri)
    client.set_registered_model_alias(NAME, "champion", number)
    return Champion(uri, base, client)


@contextmanager
def tracking(uri: str) -> Iterator[None]:
    """MLflow's registry of the process, put back afterwards."""
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
