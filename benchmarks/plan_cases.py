"""One case of ``plan_accuracy.py``: a stage of a small model, planned or measured in a process of its own.

.venv/bin/python -m benchmarks.plan_cases "finetune, full" cpu     (or cuda)
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from llara_core.config import (
    AdaptSettings,
    FinetuneSettings,
    FromScratchSettings,
    LoraSettings,
    ModelSettings,
)
from llara_core.model.adapters import trainable_model
from llara_core.training.contrastive import ContrastiveObjective
from llara_core.training.engine import train
from llara_core.training.objectives import AdaptationObjective
from llara_core.training.plan_batches import Subject, adaptation_parts, finetuning_part
from llara_core.training.plan_model import PlanEncoder, build_model, model_config
from llara_core.training.plan_rehearsal import MISSING_FORMULAS
from llara_core.training.plan_stages import rehearse_stage

STEPS = 3  # Adam's moments are there from the second on
Part = list[dict[str, Tensor]]


def _model(template: str = "slots", **sizes: Any) -> ModelSettings:
    scratch = FromScratchSettings(max_positions=512, **sizes)
    return ModelSettings(from_scratch=scratch, template=template, query_length=32, passage_length=128)


LORA = LoraSettings(rank=8)
# (model, settings of the stage): sizes, families, vocabularies, heads and both stages differ.
CASES: dict[str, tuple[ModelSettings, AdaptSettings | FinetuneSettings]] = {
    "adapt, released, tied": (
        _model("llama2vec", vocabulary_size=8000, hidden_size=256, intermediate_size=688, layers=2, heads=4),
        AdaptSettings(preset="released", batch_size=16, text_length=128),
    ),
    "adapt, paper, untied, micro-batches": (
        _model("llama2vec", vocabulary_size=16000, hidden_size=128, intermediate_size=512, layers=3, heads=4,
               tie_embeddings=False),
        AdaptSettings(preset="paper", batch_size=32, text_length=96, micro_batch_tokens=1024),
    ),
    "adapt, from scratch, 8 layers of Qwen3": (
        _model(architecture="qwen3", vocabulary_size=6000, hidden_size=160, intermediate_size=320, layers=8,
               heads=4, key_value_heads=2),
        AdaptSettings(preset="from_scratch", batch_size=24, text_length=96),
    ),
    "adapt, released, packed sequences": (
        _model("llama2vec", vocabulary_size=8000, hidden_size=256, intermediate_size=688, layers=3, heads=4),
        AdaptSettings(preset="released", batch_size=24, text_length=96, packing=True,
                      micro_batch_tokens=1536),
    ),
    "adapt, LoRA, recomputed layers": (
        _model("llama2vec", vocabulary_size=8000, hidden_size=256, intermediate_size=1024, layers=5, heads=4),
        AdaptSettings(batch_size=48, text_length=128, lora=LORA, gradient_checkpointing=True),
    ),
    "finetune, full": (
        _model(vocabulary_size=12000, hidden_size=192, intermediate_size=512, layers=3, heads=6),
        FinetuneSettings(batch_size=8, hard_negatives=3, lora=None),
    ),
    "finetune, LoRA, Mistral": (
        _model(architecture="mistral", vocabulary_size=8000, hidden_size=256, intermediate_size=512, layers=4,
               heads=4, key_value_heads=2),
        FinetuneSettings(batch_size=6, hard_negatives=3, lora=LORA),
    ),
    "finetune, gradient cache": (
        _model(vocabulary_size=8000, hidden_size=256, intermediate_size=768, layers=4, heads=4),
        FinetuneSettings(batch_size=16, hard_negatives=3, lora=LORA, gradient_cache=True,
                         micro_batch_tokens=1024),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Steps:
    """The same share of a step again and again, as ``train`` takes it."""

    share: Part
    count: int

    def __len__(self) -> int:
        """Number of steps."""
        return self.count

    def part(self, step: int, rank: int, world: int) -> Part:
        """The share; the Trainer takes entries out, so it gets copies of the dictionaries."""
        return [dict(batch) for batch in self.share]


class ResidentMemory:
    """How far this process's resident memory rises above its level now (Linux)."""

    def __init__(self) -> None:
        gc.collect()
        self.before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew

    def peak(self) -> float:
        """Bytes, the most so far."""
        return _status("VmHWM") - self.before


class DeviceMemory:
    """How far what torch has allocated on the GPU rises above its level now."""

    def __init__(self) -> None:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        self.before = torch.cuda.memory_allocated()

    def peak(self) -> float:
        """Bytes, the most so far."""
        return float(torch.cuda.max_memory_allocated() - self.before)


GAUGES: dict[str, type[ResidentMemory] | type[DeviceMemory]] = {"cpu": ResidentMemory, "cuda": DeviceMemory}


def subject_of(model: ModelSettings, device: str = "cpu") -> Subject:
    """One process that trains the model."""
    return Subject(model, model_config(model), PlanEncoder(model), device)


def predicted(name: str, device: str = "cpu") -> dict[str, float]:
    """Bytes at the peak and FLOPs of a step, as planned."""
    model, settings = CASES[name]
    found = rehearse_stage(subject_of(model, device), settings)
    return {"bytes": float(found.peak), "flops": float(found.flops), "parameters": float(found.parameters)}


def measured(name: str, device: str = "cpu") -> dict[str, float]:
    """The same of a run of a few steps, above what the device held before there was a model.

    The engine trains on a GPU where there is one, unless ``ACCELERATE_USE_CPU`` says otherwise.

    Args:
        name: of ``CASES``.
        device: ``cpu`` or ``cuda``, the one that the engine trains on.
    """
    model, settings = CASES[name]
    warm = model.model_copy(update={"from_scratch": model.from_scratch.model_copy(update={  # type: ignore[union-attr]
        "vocabulary_size": 64, "hidden_size": 16, "intermediate_size": 16, "layers": 1, "heads": 4,
        "key_value_heads": 4})})  # fmt: skip
    _run(warm, settings.model_copy(update={"batch_size": 2, "micro_batch_tokens": None}), device)
    share = _share(model, settings, device)
    gauge = GAUGES[device]()
    objective = _run(model, settings, device, share)
    peak = gauge.peak()
    counter = FlopCounterMode(display=False, custom_mapping=MISSING_FORMULAS)
    with counter:
        for batch in share:
            inputs = {key: part.to(device) for key, part in batch.items() if key not in ("counts", "row_ids")}
            objective(inputs)["loss"].backward()
    return {"bytes": peak, "flops": float(counter.get_total_flops())}


def _share(model: ModelSettings, settings: AdaptSettings | FinetuneSettings, device: str) -> Part:
    subject = subject_of(model, device)
    if isinstance(settings, AdaptSettings):
        return adaptation_parts(subject, settings)[0]
    return finetuning_part(subject, settings)


def _run(
    model: ModelSettings, settings: AdaptSettings | FinetuneSettings, device: str, share: Part | None = None
) -> Any:
    """Train a few steps with the stage's engine; the objective, for counting."""
    subject = subject_of(model, device)
    share = share or _share(model, settings, device)
    adapts = isinstance(settings, AdaptSettings)
    decoder = build_model(subject.config, torch.float32)
    slots: Sequence[int] = range(subject.vocabulary - 2, subject.vocabulary) if adapts else ()
    trained = trainable_model(decoder, settings, 0, list(slots), head=adapts)
    prior = torch.zeros(subject.vocabulary) if getattr(settings, "frequency_prior", False) else None
    objective: Any
    if isinstance(settings, AdaptSettings):
        objective = AdaptationObjective(trained, settings, len(subject.encoder.prefix_ids), prior)
    else:
        objective = ContrastiveObjective(trained, settings, subject.encoder.template.slots_per_prompt)
    objective.train()
    changed = settings.model_copy(update={"steps": STEPS})
    train("adapt" if adapts else "finetune", objective, Steps(share, STEPS), changed, 0)
    return objective


def _status(field: str) -> float:
    """Bytes of a field of this process's status."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(field))) * 1024


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.stdout.write(json.dumps(measured(*sys.argv[1:3])) + "\n")
