"""``python -m pipelines.rollback`` as a person starts it, on a local state of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from llara_core.operations.alerts import WEBHOOK
from tests.operations_webhook import Webhook

REPOSITORY = Path(__file__).resolve().parents[2]
MAKE = """
from pipelines import environment
environment.apply()
import mlflow
client = mlflow.MlflowClient()
client.create_registered_model("llara-retriever")
for number in (1, 2):
    client.create_model_version("llara-retriever", "file:///nowhere")
client.set_registered_model_alias("llara-retriever", "champion", "2")
client.set_registered_model_alias("llara-retriever", "previous", "1")
"""


def test_it_says_what_it_does_and_somebody_is_told(tmp_path: Path) -> None:
    webhook = Webhook()
    dropped = ("ZENML_", "MLFLOW_", "LLARA_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    environment = {**kept, "LLARA_LOCAL": str(tmp_path / "local"), WEBHOOK: webhook.address}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words], cwd=REPOSITORY, env=environment, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip

    try:
        made = run("-c", MAKE)
        assert made.returncode == 0, made.stderr
        tried = run("-m", "pipelines.rollback", "--dry-run")
        done = run("-m", "pipelines.rollback", "--reason", "empty answers")
        again = run("-m", "pipelines.rollback")
    finally:
        webhook.close()
    assert (tried.returncode, done.returncode, again.returncode) == (0, 0, 2), tried.stderr + done.stderr
    assert "nothing has changed" in tried.stdout
    assert "version 1 is champion again, version 2 is marked" in done.stdout
    assert "both champion and previous" in again.stderr
    (alarm,) = webhook.bodies
    assert "rollback" in str(alarm)
    assert "empty answers" in str(alarm)
