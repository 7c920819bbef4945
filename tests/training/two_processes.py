"""Train the same small stages in one process or in several, and write down what came out.

Run by the tests, once per process, with the variables that ``torchrun`` sets (RANK, WORLD_SIZE, …)::

    python -m tests.training.two_processes FOLDER SCENARIO...

FOLDER holds ``base``; each scenario writes ``FOLDER/<scenario>-<processes>`` (bundle, curve inside) and
beside it ``….gradient.safetensors``: the whole gradient of the first step, before clipping. Last, each
process writes ``FOLDER/report-<rank>.json``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
from accelerate import DistributedType, PartialState
from safetensors.torch import save_file

from llara_core.config import (
    AdaptSettings,
    FinetuneSettings,
    FromScratchSettings,
    LoraSettings,
    ModelSettings,
)
from llara_core.data.collection import CORPUS_SCHEMA, QRELS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.errors import TrainingError
from llara_core.model.prepare import prepare_base
from llara_core.training import distributed
from llara_core.training import engine as engine_module
from llara_core.training.adapt import adapt
from llara_core.training.distributed import (
    all_texts,
    connect,
    gather_rows,
    is_main,
    largest_over_ranks,
    rank,
    run_on_main,
    sum_over_ranks,
    world_size,
)
from llara_core.training.engine import train
from llara_core.training.finetune import finetune
from llara_core.training.pairs import ContrastiveBatches
from llara_core.training.trainer import StageTrainer
from tests.training.engine_toys import ToyBatches, ToyObjective, settings, toy_model

SEED = 5
LORA = LoraSettings(rank=4, alpha=8, dropout=0.0)
ADAPT = {"steps": 4, "batch_size": 13, "learning_rate": 1e-3, "text_length": 16, "minimum_span": 4,
         "language_model_weight": 0.5, "micro_batch_tokens": 80, "log_every": 1,
         "gradient_clip": 0.5}  # fmt: skip
FINETUNE = {"steps": 4, "batch_size": 11, "learning_rate": 1e-3, "temperature": 0.05, "hard_negatives": 2,
            "span_pairs": 3, "symmetric": True, "log_every": 1}  # fmt: skip
SCENARIOS: dict[str, AdaptSettings | FinetuneSettings] = {
    "adapt": AdaptSettings(**ADAPT),
    "adapt-lora": AdaptSettings(**ADAPT, lora=LORA),
    "adapt-tiny-steps": AdaptSettings(**{**ADAPT, "batch_size": 1}),  # one process has no row
    "finetune": FinetuneSettings(**FINETUNE, lora=None),
    "finetune-lora": FinetuneSettings(**FINETUNE, lora=LORA),
    # Sub-batches of unequal number in the two processes.
    "finetune-cached": FinetuneSettings(**FINETUNE, lora=LORA, gradient_cache=True, micro_batch_tokens=50),
    "finetune-own-negatives": FinetuneSettings(**FINETUNE, lora=None, cross_device_negatives=False),
}


def toy_collection() -> Collection:
    """24 documents of words of their own and different lengths; a query says two of them."""
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("aeioubdgklmnprst"), 5)) for _ in range(96)]
    documents = [words[4 * i : 4 * i + 4] for i in range(24)]
    corpus = [
        {"_id": f"d{i}", "title": "", "text": " ".join(own * (1 + i % 3))} for i, own in enumerate(documents)
    ]
    queries = [{"_id": f"q{i}", "text": f"{own[2]} {own[0]}"} for i, own in enumerate(documents)]
    qrels = [{"query_id": f"q{i}", "corpus_id": f"d{i}", "score": 1} for i in range(24)]
    return Collection(
        "toy",
        pa.Table.from_pylist(corpus, CORPUS_SCHEMA),
        pa.Table.from_pylist(queries, QUERIES_SCHEMA),
        {"train": pa.Table.from_pylist(qrels, QRELS_SCHEMA)},
    )


def make_base(folder: Path) -> Path:
    """A one-layer model, untied, so that the output embedding has a gradient of its own."""
    shape = FromScratchSettings(
        vocabulary_size=300, hidden_size=24, intermediate_size=32, layers=1, heads=2, max_positions=64,
        tie_embeddings=False,
    )  # fmt: skip
    chosen = ModelSettings(from_scratch=shape, template="slots", query_length=8, passage_length=16)
    return prepare_base(chosen, toy_collection(), folder, SEED)


@contextmanager
def first_gradient(found: dict[str, torch.Tensor]) -> Iterator[None]:
    """Copy the gradient of the first step into ``found`` before it is clipped."""
    original = StageTrainer._clip_grad_norm

    def spy(self: StageTrainer, model: Any) -> Any:
        if not found:
            inner = self.accelerator.unwrap_model(model)
            trained = {name: p.grad for name, p in inner.named_parameters() if p.grad is not None}
            found.update({name: _whole(gradient).clone() for name, gradient in trained.items()})
        return original(self, model)

    StageTrainer._clip_grad_norm = spy
    try:
        yield
    finally:
        StageTrainer._clip_grad_norm = original


def _whole(gradient: Any) -> torch.Tensor:
    return gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient


def pretend_to_have_gpus() -> None:
    """Let accelerate, which offers FSDP for GPUs alone, take each process's CPU for one."""
    PartialState._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_GPU)
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    for module in (distributed, engine_module):
        module.use_cpu = lambda: False
    distributed.training_device = lambda: "cpu"


@contextmanager
def as_if_two() -> Iterator[None]:
    """One process computes both shares that two processes would have, one after the other."""
    original = ContrastiveBatches.part

    def both(self: ContrastiveBatches, step: int, rank: int, world: int) -> list[dict[str, torch.Tensor]]:
        return (
            original(self, step, 0, 2) + original(self, step, 1, 2)
            if world == 1
            else original(self, step, rank, world)
        )

    ContrastiveBatches.part = both
    try:
        yield
    finally:
        ContrastiveBatches.part = original


def run(folder: Path, name: str) -> None:
    """Run a scenario and write its bundle and its first gradient."""
    chosen, collection = SCENARIOS[name], toy_collection()
    output = folder / f"{name}-{world_size()}"
    found: dict[str, torch.Tensor] = {}
    with first_gradient(found), as_if_two() if "own-negatives" in name else _nothing():
        if isinstance(chosen, AdaptSettings):
            texts = collection.passages
            rows = pa.table({"text": texts, "next_text": [*texts[1:], ""]})
            adapt(folder / "base", rows, chosen, output, SEED)
        else:
            random = np.random.default_rng(1)
            pairs = [(f"q{i}", f"d{j}") for i in range(24) for j in random.permutation(24)[:3] if i != j]
            negatives = pa.table(
                {"query_id": [pair[0] for pair in pairs], "corpus_id": [pair[1] for pair in pairs]}
            )
            finetune(folder / "base", collection, negatives, chosen, output, SEED)
    if is_main():
        save_file(found, folder / f"{output.name}.gradient.safetensors")


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def primitives() -> dict[str, Any]:
    """What the functions of ``distributed`` give in this process."""
    rows = torch.arange(1.0, 7.0).view(3, 2)
    mine = rows[:1].clone() if rank() == 0 else rows[1:].clone()
    mine.requires_grad_()
    gathered = gather_rows(mine, [1, 2])
    (gathered * torch.tensor([[1.0], [10.0]][rank()]) * torch.tensor([[1.0], [2.0], [3.0]])).sum().backward()
    said: dict[str, Any] = {"gathered": gathered.tolist(), "gradient": cast(torch.Tensor, mine.grad).tolist()}
    said["sums"] = sum_over_ranks({"b": rank() + 1.0, "a": 10.0 * (rank() + 1)})
    said["largest"] = largest_over_ranks({"x": float(rank())})
    said["texts"] = all_texts("né" * (2 * rank()))
    said["answer"] = run_on_main(lambda: "from the main process")
    try:
        run_on_main(_fail)
    except Exception as error:
        said["failure"] = f"{type(error).__name__}: {error}"
    try:
        gather_rows(rows, [1, 2])
    except ValueError as error:
        said["wrong_size"] = str(error)
    return said


def _fail() -> str:
    raise OSError("the disk is full")


class UnevenBatches(ToyBatches):
    """The first process cuts its share into three, the second leaves it whole."""

    def part(self, step: int, rank: int, world: int) -> list[dict[str, torch.Tensor]]:
        """The micro-batches of a process."""
        self.cuts = 3 if rank == 0 else 1
        parts = super().part(step, rank, world)
        factor = self.factors.get(step, 1.0) if rank == world - 1 else 1.0
        return [batch | {"factor": torch.tensor(factor)} for batch in parts]


def engine(folder: Path) -> dict[str, Any]:
    """Train the toy with uneven shares, then with a loss that only the last process sees is not finite."""
    model = toy_model()
    lines: list[int] = []
    train("adapt", ToyObjective(model), UnevenBatches(4), settings(steps=4), 1, lambda *line: lines.append(1))
    if is_main():
        weights = {name: value.detach().clone() for name, value in model.named_parameters()}
        save_file(weights, folder / f"engine-{world_size()}.safetensors")
    try:
        train("adapt", ToyObjective(toy_model()), UnevenBatches(4, factors={2: float("nan")}), settings(), 1)
    except TrainingError as error:
        return {"lines": len(lines), "error": str(error)}
    return {"lines": len(lines), "error": ""}


if __name__ == "__main__":
    torch.set_num_threads(1)
    if os.environ.get("ACCELERATE_USE_FSDP"):
        pretend_to_have_gpus()
    connect()
    place = Path(sys.argv[1])
    for scenario in sys.argv[2:]:
        run(place, scenario)
    report = {"primitives": primitives(), "engine": engine(place)}
    (place / f"report-{rank()}.json").write_text(json.dumps(report), encoding="utf-8")
