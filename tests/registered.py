"""Two registered models with many versions, for tests of what ``llara gc`` may delete.

``llara-retriever``: champion 2, previous 1, challenger 5, newest 8. ``llara-adapted``: champion 3; version 5
of ``llara-retriever`` was made from its version 1. And a logged model that nobody has registered.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def register(client: Any, experiment: str, name: str, number: int, configuration: object) -> None:
    """A run, a model that it logged, and a version made of it."""
    run = client.create_run(experiment, run_name=f"{name}-{number}")
    client.log_text(run.info.run_id, "a report " * 100, "report.html")
    model = client.create_logged_model(experiment, name="retriever", source_run_id=run.info.run_id)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "weights.bin").write_bytes(os.urandom(20_000))
        client.log_model_artifacts(model.model_id, folder)
    client.finalize_logged_model(model.model_id, "READY")
    tags = {
        "fingerprint": f"{name}-{number}",
        "configuration": json.dumps(configuration),
        "logged_model": model.model_id,  # for the tests: MLflow tells it of some versions only
    }
    client.create_model_version(
        name, f"models:/{model.model_id}", run.info.run_id, tags=tags, model_id=model.model_id
    )
    client.set_terminated(run.info.run_id)


def register_all(client: Any, experiment: str) -> None:
    """Everything of the module's docstring.

    Args:
        client: an ``MlflowClient``.
        experiment: name of an experiment that exists.
    """
    identity = client.get_experiment_by_name(experiment).experiment_id
    for name, count in (("llara-adapted", 3), ("llara-retriever", 8)):
        client.create_registered_model(name)
        for number in range(1, count + 1):
            base = "models:/llara-adapted/1" if (name, number) == ("llara-retriever", 5) else None
            register(client, identity, name, number, {"model": {"base": base}})
    client.set_registered_model_alias("llara-adapted", "champion", "3")
    for alias, number in (("champion", "2"), ("previous", "1"), ("challenger", "5")):
        client.set_registered_model_alias("llara-retriever", alias, number)
    client.create_logged_model(identity, name="registered-by-nobody")
