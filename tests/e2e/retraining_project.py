"""A project whose ticks run in processes of their own, for the tests of the retraining."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llara_core.operations.freshness_history import file_of, read
from llara_core.operations.lock import Held, holder, take

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 500  # seconds that anything here may take; a tick that trains takes one or two minutes


@dataclass(frozen=True)
class Project:
    """A state of its own, with a tiny collection and the configuration of its ticks."""

    root: Path

    @property
    def local(self) -> Path:
        return self.root / "local"

    @property
    def corpus(self) -> Path:
        return self.root / "data" / "corpus.jsonl"

    @property
    def lock(self) -> Path:
        return self.local / "locks" / "retraining-llara-retriever.lock"

    def ticks(self) -> list[dict[str, Any]]:
        return read(file_of(self.local, "llara-retriever"))

    def environment(self) -> dict[str, str]:
        dropped = ("ZENML_", "MLFLOW_", "LLARA_", "COVERAGE")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        return {**kept, "LLARA_LOCAL": str(self.local), "LLARA_TINY": str(self.root / "data")}

    def configure(self, **settings: Any) -> Path:
        told = {"training": "configs/tiny.yaml", "indexing": None, **settings}
        file = self.root / "retraining.yaml"
        file.write_text(yaml.safe_dump({"parameters": told}), encoding="utf-8")
        return file

    def start(self, **settings: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines", "retraining", "--config", str(self.configure(**settings))],
            cwd=REPOSITORY, env=self.environment(), text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def tick(self, **settings: Any) -> str:
        """Run a tick to its end, which must be a good one; returns what it printed."""
        process = self.start(**settings)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
        return output

    def ask(self, program: str) -> Any:
        """Run a program in this state and return the JSON that it prints last."""
        done = subprocess.run(
            [sys.executable, "-c", f"from pipelines import environment; environment.apply()\n{program}"],
            cwd=REPOSITORY, env=self.environment(), capture_output=True, text=True, timeout=PATIENCE,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.strip().splitlines()[-1])

    def change(self, count: int, words: str) -> None:
        """Add words to the first documents of the corpus."""
        rows = [json.loads(line) for line in self.corpus.read_text(encoding="utf-8").splitlines()]
        for row in rows[:count]:
            row["text"] += f" {words}"
        self.corpus.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def until(process: subprocess.Popen[str], words: str) -> str:
    """Read what a process prints until it says some words."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(f"{words!r} was never said:\n{said}")


def kill_all(process: subprocess.Popen[str]) -> None:
    """SIGKILL to a tick and to what it has started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)


def wait_for_lock(project: Project) -> None:
    """Wait until whoever works has ended."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = take(project.lock, "the test")
        if isinstance(found, Held):
            found.release()
            return
        time.sleep(0.5)
    raise AssertionError(f"still at work: {holder(project.lock)}")


def what_is_recorded(project: Project) -> dict[str, Any]:
    """What ZenML, MLflow and the registry know of the last tick."""
    found: dict[str, Any] = project.ask(
        """
import json, mlflow
from zenml.client import Client
run = Client().get_pipeline("retraining").last_run
client = mlflow.MlflowClient()
experiment = client.get_experiment_by_name("llara")
tracked = [one for one in client.search_runs([experiment.experiment_id]) if one.data.tags.get("tick")]
aliases = client.get_registered_model("llara-retriever").aliases if client.search_registered_models() else {}
print(json.dumps({
    "run": run.name, "status": str(run.status.value),
    "verdict": run.steps["decide"].outputs["verdict"][0].load(),
    "metadata": run.steps["decide"].run_metadata["tick"],
    "steps": {name: str(step.status.value) for name, step in run.steps.items()},
    "tags": tracked[0].data.tags, "metrics": tracked[0].data.metrics,
    "artifacts": [one.path for one in client.list_artifacts(tracked[0].info.run_id)],
    "aliases": {key: str(value) for key, value in aliases.items()}, "runs": len(tracked),
}))
"""
    )
    return found
