"""Train small stages in processes that kill themselves at a given place, again and again until one ends.

A program of its own, because only a fresh process may fork after importing torch. It imports once and then
forks a child (or a group of children that train together) for every attempt, so that dozens of real SIGKILLs
take seconds::

    python -m tests.training.killed_runs FOLDER PLAN

FOLDER holds ``base``; PLAN is JSON: name → {"scenario", "world", "kills"}. Each run writes into
``FOLDER/<name>``: ``bundle``, ``checkpoints``, ``log``, and ``attempts.json`` (how each process of each
attempt ended).
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from llara_core.config import AdaptSettings, FinetuneSettings, LoraSettings
from llara_core.training import sealing
from llara_core.training.adapt import adapt
from llara_core.training.distributed import connect, rank
from llara_core.training.finetune import finetune
from llara_core.training.trainer import StageTrainer
from tests.training.two_processes import SEED, toy_collection

STEPS, EVERY = 9, 2
LORA = LoraSettings(rank=4, alpha=8, dropout=0.2)
SHARED: dict[str, Any] = {"steps": STEPS, "learning_rate": 3e-3, "checkpoint_every": EVERY, "log_every": 3}
ADAPT = {**SHARED, "batch_size": 9, "text_length": 16, "minimum_span": 4, "micro_batch_tokens": 100,
         "language_model_weight": 0.5, "embedding_learning_rate": 1e-3}  # fmt: skip
FINETUNE = {**SHARED, "batch_size": 8, "temperature": 0.05, "hard_negatives": 1, "span_pairs": 2}
SCENARIOS: dict[str, AdaptSettings | FinetuneSettings] = {
    "adapt": AdaptSettings(**ADAPT),
    "adapt-lora": AdaptSettings(**ADAPT, lora=LORA),
    "finetune": FinetuneSettings(**FINETUNE, lora=None),
    "finetune-lora": FinetuneSettings(**FINETUNE, lora=LORA, gradient_cache=True),
}
PATIENCE = 60.0  # seconds a process may take after its partner was killed


def die() -> None:
    """End at once, with no chance to clean up."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm(kind: str, number: int) -> None:
    """Make this process kill itself.

    Args:
        kind: ``step``: when the gradient of step ``number`` is there; ``write``: at the ``number``-th file or
            folder that is forced to the disk; ``rename``: when the ``number``-th checkpoint is about to get
            its name; ``prune``: when the ``number``-th old one has lost its own.
        number: from 1.
    """
    seen = 0

    def count_and_die(wanted: bool = True) -> None:
        nonlocal seen
        seen += wanted
        if wanted and seen == number:
            die()

    if kind == "step":
        original = StageTrainer.training_step

        def training_step(self: StageTrainer, *arguments: Any, **options: Any) -> Any:
            loss = original(self, *arguments, **options)
            if self.state.global_step + 1 == number:
                die()
            return loss

        StageTrainer.training_step = training_step
    elif kind == "write":
        sync = sealing.sync
        sealing.sync = lambda path: (count_and_die(), sync(path))  # type: ignore[assignment,func-returns-value]
    else:
        rename = Path.rename
        suffix = {"rename": ".part", "prune": ".old"}[kind]

        def watched(self: Path, target: Path) -> Any:
            if kind == "rename":
                count_and_die(self.name.endswith(suffix))
            done = rename(self, target)
            if kind == "prune":
                count_and_die(Path(target).name.endswith(suffix))
            return done

        Path.rename = watched  # type: ignore[assignment]


def train(folder: Path, base: Path, scenario: str) -> None:
    """One attempt at a run, in this process."""
    settings, collection = SCENARIOS[scenario], toy_collection()
    kept = folder / "checkpoints"
    if isinstance(settings, AdaptSettings):
        texts = collection.passages
        rows = pa.table({"text": texts, "next_text": [*texts[1:], ""]})
        adapt(base, rows, settings, folder / "bundle", SEED, checkpoints=kept)
    else:
        random = np.random.default_rng(1)
        pairs = [(f"q{i}", f"d{j}") for i in range(24) for j in random.permutation(24)[:2] if i != j]
        negatives = pa.table({"query_id": [one for one, _ in pairs], "corpus_id": [two for _, two in pairs]})
        finetune(base, collection, negatives, settings, folder / "bundle", SEED, checkpoints=kept)


def child(folder: Path, base: Path, scenario: str, kill: list[Any] | None, place: dict[str, str]) -> None:
    """What a forked process does; never returns."""
    code = 1
    try:
        torch.set_num_threads(1)
        os.environ.update(place)
        sys.stderr = (folder / "log").open("a", buffering=1)
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, force=True)
        connect()
        # Processes take turns at being the one that is killed; only the main one writes.
        victim = 0 if kill is None or kill[0] != "step" else kill[1] % int(place.get("WORLD_SIZE", "1"))
        if kill is not None and rank() == victim:
            arm(*kill)
        train(folder, base, scenario)
        code = 0
    except Exception as error:
        logging.getLogger(__name__).error("%s: %s", type(error).__name__, error)
    finally:
        sys.stderr.flush()
        os._exit(code)


def attempt(folder: Path, base: Path, run: dict[str, Any], kill: list[Any] | None) -> list[int]:
    """Fork the processes of one attempt; returns how each ended (minus the signal, or the exit code)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = run["world"]
    running = []
    for number in range(world):
        place = {} if world == 1 else {
            "RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(world),
            "LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        process = os.fork()
        if process == 0:
            child(folder, base, run["scenario"], kill, place)
        running.append(process)
    ends: dict[int, int] = {}
    give_up = None
    while len(ends) < world:
        for process in running:
            if process not in ends:
                done, status = os.waitpid(process, os.WNOHANG)
                if done:
                    ends[process] = os.waitstatus_to_exitcode(status)
                    give_up = time.monotonic() + PATIENCE
                elif give_up is not None and time.monotonic() > give_up:
                    os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
    return [ends[process] for process in running]


def main(folder: Path, plan: dict[str, dict[str, Any]]) -> None:
    """Run everything in the plan."""
    for name, run in plan.items():
        (folder / name).mkdir()
        ends = [attempt(folder / name, folder / "base", run, kill) for kill in [*run["kills"], None]]
        (folder / name / "attempts.json").write_text(json.dumps(ends), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
