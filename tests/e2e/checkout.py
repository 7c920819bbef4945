"""A copy of the sources that runs by itself, so that a test may edit it and keeps a state of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = ("llara_core", "steps", "pipelines", "configs", ".zenml")


def copy_sources(root: Path) -> Path:
    """Copy what a pipeline needs into a folder, made when missing; returns the folder."""
    for name in SOURCES:
        shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@dataclass(frozen=True)
class Checkout:
    """A copy of the sources with a state of its own, and a tiny collection."""

    root: Path
    data: Path
    patience: float = 280  # seconds that one command may take

    @property
    def local(self) -> Path:
        return self.root / ".local"

    def environment(self, **extra: str) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ZENML_", "MLFLOW_", "LLARA_", "COVERAGE"))
        }
        return {**kept, "LLARA_LOCAL": str(self.local), "LLARA_TINY": str(self.data), **extra}

    def launch(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pipelines", "training", "--config", "configs/tiny.yaml", *arguments],
            cwd=self.root,
            env=self.environment(**extra),
            capture_output=True,
            text=True,
            timeout=self.patience,
            check=False,
        )

    def ask(self, program: str) -> Any:
        """Run a program in the checkout's state and return the JSON that it prints last."""
        done = subprocess.run(
            [sys.executable, "-c", f"from pipelines import environment; environment.apply()\n{program}"],
            cwd=self.root,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=self.patience,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.strip().splitlines()[-1])


def steps_that(words: str, output: str) -> set[str]:
    """Names of the steps on the lines that hold some words; ZenML puts the name in backticks."""
    return {line.split("`")[1] for line in output.splitlines() if words in line and "`" in line}
