"""A launch that fails before its first step, as a schedule runs it: JSON lines, and somebody is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from llara_core.operations.alerts import WEBHOOK
from tests.operations_webhook import TOKEN, Webhook

REPOSITORY = Path(__file__).resolve().parents[2]


def test_a_schedule_whose_configuration_is_gone_wakes_somebody(tmp_path: Path) -> None:
    webhook = Webhook()
    kept = {
        key: one for key, one in os.environ.items() if not key.startswith(("ZENML_", "MLFLOW_", "LLARA_"))
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pipelines", "training", "-c", "nowhere.yaml"],
            cwd=REPOSITORY,
            env={**kept, "LLARA_LOCAL": str(tmp_path), "LLARA_LOG_FORMAT": "json", WEBHOOK: webhook.address},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        webhook.close()
    assert done.returncode == 2
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines[-1]["level"] == "ERROR"
    assert "nowhere.yaml: no such configuration file" in lines[-1]["message"]
    (alarm,) = webhook.bodies
    assert alarm["title"] == "pipelines training -c nowhere.yaml"
    assert "no such configuration file" in alarm["text"]
    assert TOKEN not in done.stderr + done.stdout
