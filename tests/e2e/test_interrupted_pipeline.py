"""A pipeline that is killed in one training step and fails in another goes on by itself, to the same models.

Issue 3, point 7. The copy of the sources gets two faults, each of which strikes once: ``adapt`` is killed
with SIGKILL, and ``finetune`` raises, so that ZenML retries it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import write_tiny_beir
from tests.e2e.checkout import Checkout, copy_sources, steps_that

FAULTS = '''

_healthy = curve_logger


def curve_logger(stage):
    """Logs until step 3, where the first run of adapt is killed and that of finetune fails."""
    import os
    import signal
    inner = _healthy(stage)
    struck = Path(os.environ["LLARA_LOCAL"]) / f"struck-{stage}"

    def on_log(step, values):
        inner(step, values)
        if step == 3 and stage in ("adapt", "finetune") and not struck.exists():
            struck.write_text("")
            if stage == "adapt":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ConnectionError("the tracking server is away")

    return on_log
'''
FINGERPRINTS = """
import json
from zenml.client import Client
from llara_core.model.bundle import read_bundle
last = Client().get_pipeline("training").last_successful_run
outputs = {"adapt": "adapted_model", "finetune": "finetuned_model",
           "finetune_without_adaptation": "finetuned_model"}
found = {}
for name, output in outputs.items():
    bundle = read_bundle(last.steps[name].outputs[output][0].load().path)
    found[name] = [bundle.fingerprint, [line["step"] for line in bundle.history[-1].curve]]
print(json.dumps(found))
"""
CURVE = """
import json, mlflow
client = mlflow.MlflowClient()
runs = client.search_runs([client.get_experiment_by_name("llara").experiment_id])
print(json.dumps([sorted({one.step for one in client.get_metric_history(run.info.run_id, "adapt/loss")})
                  for run in runs]))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root = copy_sources(tmp_path / "checkout")
    config = root / "configs" / "tiny.yaml"
    text = config.read_text(encoding="utf-8")
    assert text.count("    log_every: 1\n") == 2
    text = text.replace("    log_every: 1\n", "    log_every: 1\n    checkpoint_every: 2\n")
    text += "steps:\n  finetune:\n    retry: {max_retries: 1}\n"
    config.write_text(text, encoding="utf-8")
    assert text.count("enable_cache: true") == 1
    uncached = text.replace("enable_cache: true", "enable_cache: false")
    (root / "configs" / "uncached.yaml").write_text(uncached, encoding="utf-8")
    with (root / "steps" / "tracking.py").open("a", encoding="utf-8") as source:
        source.write(FAULTS)
    return Checkout(root, write_tiny_beir(root / "data"), patience=900)


def checkpoints(checkout: Checkout) -> list[str]:
    folder = checkout.local / "checkpoints"
    return sorted(path.relative_to(folder).parts[0] for path in folder.glob("*/run-*/step-*"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_and_failed_steps_go_on_where_they_were(checkout: Checkout) -> None:
    killed = checkout.launch()
    assert killed.returncode == -9
    assert steps_that("has finished", killed.stdout) >= {"prepare", "segment"}
    assert checkpoints(checkout) == ["adapt"]

    again = checkout.launch()
    said = again.stdout + again.stderr
    assert again.returncode == 0, said
    assert "prepare" in steps_that("Using cached version", again.stdout)
    assert re.findall(r"(\w+): resuming at step (\d) of 4", said) == [("adapt", "2"), ("finetune", "2")]
    assert (checkout.local / "struck-finetune").exists()  # and ZenML tried again
    assert checkpoints(checkout) == []  # their results are stored
    resumed: dict[str, Any] = checkout.ask(FINGERPRINTS)

    whole = checkout.launch("--config", "configs/uncached.yaml")
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert steps_that("has finished", whole.stdout) >= {"prepare", "adapt", "finetune"}
    assert "resuming" not in whole.stdout + whole.stderr
    assert checkout.ask(FINGERPRINTS) == resumed
    assert all(steps == [1, 2, 3, 4] for _, steps in resumed.values()) and len(resumed) == 3
    # The curve in MLflow is whole in the run that went on, although it trained only the second half.
    assert checkout.ask(CURVE) == [[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3]]
