"""Both stages run here: transformers' Trainer over planned steps, in one process or in many."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from llara_core.config import OptimizerSettings
from llara_core.model.bundle import Stage
from llara_core.progress import Progress
from llara_core.training.checkpoints import Checkpoints
from llara_core.training.distributed import connect, is_main, rank, use_cpu, world_size
from llara_core.training.sharding import RankedSteps, StepBatches, only_item
from llara_core.training.spread_weights import make_whole
from llara_core.training.trainer import OnLog, StageResult, StageTrainer

__all__ = ["OnLog", "StageResult", "StageTrainer", "finished_run", "finished_stage", "train"]

logger = logging.getLogger(__name__)

SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


class _ShowProgress(TrainerCallback):
    def __init__(self, bar: Progress, result: StageResult) -> None:
        self.bar, self.result = bar, result

    def on_step_end(self, *_: Any, **__: Any) -> None:
        last = self.result.curve[-1]["loss"] if self.result.curve else None
        self.bar.update(1, **({} if last is None else {"loss": f"{last:.4f}"}))


def train(
    stage: str,
    module: nn.Module,
    batches: StepBatches,
    settings: OptimizerSettings,
    seed: int,
    on_log: OnLog | None = None,
    checkpoints: Checkpoints | None = None,
) -> StageResult:
    """Run all steps of a stage; the module's weights are changed in place.

    With checkpoints, a run that was cut off goes on where its newest good one was written, and ends with
    the same weights, bit for bit on the CPU, as if it had not been cut off.

    Args:
        stage: ``adapt`` or ``finetune``, for messages and the progress bar.
        module: maps a micro-batch to its share of ``loss`` and of the loss's terms (scalars); its ``model``
            is what is optimised.
        batches: the steps; every process takes its own part of each.
        settings: rates, schedule, clipping, precision, logging.
        seed: of dropout; the batches carry their own.
        on_log: called by the main process with the step and the logged values; after a resume also with
            those of the steps before.
        checkpoints: where this run's are kept; None: an interrupted run starts over.

    Returns:
        The loss curve and what was measured.

    Raises:
        TrainingError: a loss or gradient is not finite; names the step.
        DataError: the folder of the checkpoints cannot be written.
    """
    connect()
    save_every = None if checkpoints is None else settings.checkpoint_every
    with (
        tempfile.TemporaryDirectory(prefix="llara-") as scratch,
        torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []),
        Progress(stage, total=settings.steps) as bar,
    ):
        trainer = StageTrainer(
            stage=stage,
            on_log=on_log,
            checkpoints=None if save_every is None else checkpoints,
            embedding_learning_rate=settings.embedding_learning_rate,
            model=module,
            args=_arguments(settings, scratch, seed, save_every, _has_unused(module)),
            train_dataset=RankedSteps(batches, world_size(), ahead=not use_cpu()),
            data_collator=only_item,
        )
        _show_progress(trainer, bar)
        found = trainer.resume_from()
        if found is not None and is_main():
            _catch_up(bar, trainer, found.step)
        # Each process drops out other units; the first draws what a process alone would.
        torch.manual_seed(seed + rank())
        trainer.train(resume_from_checkpoint=None if found is None else str(found.folder))
        make_whole(module)
        return trainer.finish()


def _show_progress(trainer: StageTrainer, bar: Progress) -> None:
    """The main process shows our bar; transformers' own log lines and bar stay away."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if is_main():
        trainer.add_callback(_ShowProgress(bar, trainer.result))


def _has_unused(module: nn.Module) -> bool:
    """Whether a step may leave a trained weight without a gradient, which replicas must then look for.

    That costs a walk over the graph in every step. It is so for an output embedding of its own in a stage
    that names no words, and for experts that no token chose.
    """
    model: Any = module.model
    config = model.config.get_text_config()
    experts = any(getattr(config, name, None) for name in ("num_experts", "num_local_experts"))
    head, words = model.get_output_embeddings(), model.get_input_embeddings()
    own = head is not None and head.weight.requires_grad and head.weight is not words.weight
    return experts or (own and not getattr(module, "uses_output_embedding", True))


def _catch_up(bar: Progress, trainer: StageTrainer, step: int) -> None:
    """Show the steps that an earlier run has done, as far as a new bar and a new log lack them."""
    bar.skip(step)
    for line in trainer.result.curve:
        if trainer.on_log is not None:
            trainer.on_log(int(line["step"]), {name: line[name] for name in line if name != "step"})


def finished_run(run: Checkpoints | None, output: Path) -> str:
    """Mark a run's checkpoints as finished, now that its result is saved; the result's path.

    Args:
        run: the checkpoints; None: the run kept none.
        output: what was saved.
    """
    if run is not None:
        run.finish()
    return str(output)


def finished_stage(
    name: str, settings: OptimizerSettings, result: StageResult, seed: int, **counts: int
) -> Stage:
    """What the bundle's history keeps of a stage that has ended.

    Args:
        name: ``adapt`` or ``finetune``.
        settings: of the stage.
        result: what ``train`` measured.
        seed: of the stage.
        counts: what was trained on, e.g. ``rows`` or ``queries``.
    """
    facts = {
        "seed": seed,
        **counts,
        "tokens": result.tokens,
        "seconds": round(result.seconds, 1),
        "padding_waste": round(result.padding_waste, 4),
        "adapters": "merged" if settings.lora is not None else "none",
    }
    return Stage(name, settings.model_dump(mode="json"), result.curve, facts)


def _arguments(
    settings: OptimizerSettings, scratch: str, seed: int, save_every: int | None, unused: bool
) -> TrainingArguments:
    """The Trainer's arguments; it keeps nothing in ``scratch`` and reports to nobody but us."""
    return TrainingArguments(
        output_dir=scratch,
        max_steps=settings.steps,
        per_device_train_batch_size=1,  # one item is a process's whole share of a step
        learning_rate=settings.learning_rate,
        lr_scheduler_type=SCHEDULES[settings.schedule],
        warmup_steps=round(settings.warmup_fraction * settings.steps),
        weight_decay=settings.weight_decay,
        adam_beta2=settings.adam_beta2,
        max_grad_norm=settings.gradient_clip,
        logging_steps=settings.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # the trainer looks for these itself
        save_strategy="no" if save_every is None else "steps",
        save_steps=save_every or settings.steps,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        seed=seed,
        use_cpu=use_cpu(),
        bf16=settings.mixed_precision == "bf16",
        ddp_find_unused_parameters=unused,
    )
