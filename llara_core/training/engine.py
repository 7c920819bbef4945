"""Both stages run here: transformers' Trainer over planned batches, with our logging and checks."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from llara_core.config import OptimizerSettings
from llara_core.errors import TrainingError
from llara_core.model.bundle import Stage
from llara_core.progress import Progress

logger = logging.getLogger(__name__)

OnLog = Callable[[int, dict[str, float]], None]
SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


@dataclass
class StageResult:
    """What a stage measured.

    Args:
        curve: one mapping a log line: ``step``, ``loss`` and its terms (nats, mean since the last line),
            ``learning_rate``, ``grad_norm``, ``tokens_per_second``, ``padding_waste``, ``seconds_left``.
        seconds: wall time of the steps.
        tokens: real tokens seen.
        padding_waste: share of positions that were padding.
    """

    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    tokens: int = 0
    padding_waste: float = 0.0


def _only(items: list[dict[str, Any]]) -> dict[str, Any]:
    return items[0]


class StageTrainer(Trainer):
    """transformers' Trainer for a module that returns ``loss`` and its terms for a whole batch.

    Args:
        stage: name for messages.
        on_log: called with the step and the logged values.
        embedding_learning_rate: of input and output embeddings; None: the same as all else.
        arguments: passed on to ``Trainer``.
    """

    def __init__(
        self, *, stage: str, on_log: OnLog | None, embedding_learning_rate: float | None, **arguments: Any
    ) -> None:
        self.stage, self.on_log = stage, on_log
        self.embedding_learning_rate = embedding_learning_rate
        self.result = StageResult()
        self._sums: dict[str, Tensor] = {}
        self._batches = self._real = self._padded = self._all_padded = 0
        self._first_bad: Tensor | None = None
        self._started = self._window = time.perf_counter()
        super().__init__(**arguments)

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        # The plan is random already; its order is the order of the steps.
        return SequentialSampler(
            cast(Any, train_dataset if train_dataset is not None else self.train_dataset)
        )

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW with the embeddings in a group of their own; norms and biases do not decay."""
        if self.optimizer is None:
            groups = parameter_groups(
                cast(Any, self.model).model,
                self.args.learning_rate,
                self.embedding_learning_rate,
                self.args.weight_decay,
            )
            self.optimizer = torch.optim.AdamW(
                groups, lr=self.args.learning_rate, betas=(0.9, self.args.adam_beta2), fused=True
            )
        return self.optimizer

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The step's loss; adds its terms and token counts to the current log line."""
        real, padded = inputs.pop("counts").tolist()
        terms = model(inputs)
        self._batches += 1
        self._real += int(real)
        self._padded += int(padded)
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach()
        self._watch(terms["loss"].detach())
        return (terms["loss"], terms) if return_outputs else terms["loss"]

    def _watch(self, loss: Tensor) -> None:
        """Remember the first step without a finite loss; a GPU is only asked when a line is logged."""
        if self._first_bad is None:
            self._first_bad = torch.full((), -1, dtype=torch.long, device=loss.device)
        bad = ~torch.isfinite(loss) & (self._first_bad < 0)
        self._first_bad = torch.where(bad, self.state.global_step, self._first_bad)
        if loss.device.type == "cpu":
            self._stop_if_bad()

    def _stop_if_bad(self) -> None:
        step = -1 if self._first_bad is None else int(self._first_bad)
        if step >= 0:
            raise TrainingError(
                f"{self.stage}: the loss is not finite at step {step + 1} of {self.args.max_steps} "
                f"(batch {step}); lower {self.stage}.learning_rate, or raise {self.stage}.warmup_fraction. "
                "Nothing was saved"
            )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Turn the Trainer's log line into ours and hand it on."""
        if "loss" not in logs or not self._batches:  # the closing summary of the Trainer
            return
        self._stop_if_bad()
        if not torch.isfinite(torch.as_tensor(logs.get("grad_norm", 0.0))):
            raise TrainingError(
                f"{self.stage}: the gradient is not finite at step {self.state.global_step}; "
                f"lower {self.stage}.learning_rate. Nothing was saved"
            )
        now = time.perf_counter()
        step = self.state.global_step
        line = {name: float(value) / self._batches for name, value in self._sums.items()}
        line["learning_rate"] = float(logs["learning_rate"])
        line["grad_norm"] = float(logs.get("grad_norm", 0.0))
        line["tokens_per_second"] = self._real / max(now - self._window, 1e-9)
        line["padding_waste"] = 1.0 - self._real / max(self._padded, 1)
        line["seconds_left"] = (now - self._started) / step * (self.args.max_steps - step)
        self.result.curve.append({"step": float(step), **line})
        self.result.tokens += self._real
        self._all_padded += self._padded
        self._sums, self._batches, self._real, self._padded, self._window = {}, 0, 0, 0, now
        if self.on_log is not None:
            self.on_log(step, line)

    def finish(self) -> StageResult:
        """The measured result, once training has ended."""
        self._stop_if_bad()
        self.result.seconds = time.perf_counter() - self._started
        self.result.padding_waste = 1.0 - self.result.tokens / max(self._all_padded, 1)
        return self.result


class _ShowProgress(TrainerCallback):
    def __init__(self, bar: Progress, result: StageResult) -> None:
        self.bar, self.result = bar, result

    def on_step_end(self, *_: Any, **__: Any) -> None:
        last = self.result.curve[-1]["loss"] if self.result.curve else None
        self.bar.update(1, **({} if last is None else {"loss": f"{last:.4f}"}))


def parameter_groups(
    model: Any, learning_rate: float, embedding_learning_rate: float | None, weight_decay: float
) -> list[dict[str, Any]]:
    """Optimiser groups: embeddings (own rate), matrices (decayed), norms and biases (not decayed).

    Args:
        model: causal language model, perhaps with adapters; frozen parameters are left out.
        learning_rate: of all but the embeddings.
        embedding_learning_rate: of input and output embeddings; None: the same.
        weight_decay: decoupled decay of everything with two dimensions.
    """
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    embeddings = {id(weights) for layer in layers if layer is not None for weights in layer.parameters()}
    groups: dict[str, list[nn.Parameter]] = {"embeddings": [], "matrices": [], "vectors": []}
    for parameter in model.parameters():
        if parameter.requires_grad:
            kind = "matrices" if parameter.ndim > 1 else "vectors"
            groups["embeddings" if id(parameter) in embeddings else kind].append(parameter)
    rates = {"embeddings": embedding_learning_rate or learning_rate}
    return [
        {
            "params": members,
            "lr": rates.get(name, learning_rate),
            "weight_decay": 0.0 if name == "vectors" else weight_decay,
        }
        for name, members in groups.items()
        if members
    ]


def train(
    stage: str,
    module: nn.Module,
    batches: Dataset[dict[str, Tensor]],
    settings: OptimizerSettings,
    seed: int,
    on_log: OnLog | None = None,
) -> StageResult:
    """Run all steps of a stage; the module's weights are changed in place.

    Args:
        stage: ``adapt`` or ``finetune``, for messages and the progress bar.
        module: takes a batch, returns ``loss`` and its terms; its ``model`` is what is optimised.
        batches: one item a step, with ``counts`` (real tokens, padded positions) int64 [2].
        settings: rates, schedule, clipping, logging.
        seed: of dropout; the batches carry their own.
        on_log: called with the step and the logged values.

    Returns:
        The loss curve and what was measured.

    Raises:
        TrainingError: a loss or gradient is not finite; names the step.
    """
    with (
        tempfile.TemporaryDirectory(prefix="llara-") as scratch,
        torch.random.fork_rng(),
        Progress(stage, total=settings.steps) as bar,
    ):
        trainer = StageTrainer(
            stage=stage,
            on_log=on_log,
            embedding_learning_rate=settings.embedding_learning_rate,
            model=module,
            args=_arguments(settings, scratch, seed),
            train_dataset=batches,
            data_collator=_only,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(_ShowProgress(bar, trainer.result))
        trainer.train()
        return trainer.finish()


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


def _arguments(settings: OptimizerSettings, scratch: str, seed: int) -> TrainingArguments:
    """The Trainer's arguments; it keeps nothing in ``scratch`` and reports to nobody but us."""
    return TrainingArguments(
        output_dir=scratch,
        max_steps=settings.steps,
        per_device_train_batch_size=1,  # one item of the dataset is a whole batch
        learning_rate=settings.learning_rate,
        lr_scheduler_type=SCHEDULES[settings.schedule],
        warmup_steps=round(settings.warmup_fraction * settings.steps),
        weight_decay=settings.weight_decay,
        adam_beta2=settings.adam_beta2,
        max_grad_norm=settings.gradient_clip,
        logging_steps=settings.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # it would hide what `_watch` looks for
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        seed=seed,
        use_cpu=not torch.cuda.is_available(),
    )
