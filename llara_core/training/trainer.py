"""transformers' Trainer for planned steps: micro-batches, several processes, checks and log lines."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from accelerate.utils import DistributedType, send_to_device
from torch import Tensor, nn
from torch.utils.data import SequentialSampler

from llara_core.training.distributed import (
    all_texts,
    is_main,
    largest_over_ranks,
    missing_calls,
    rank,
    sum_over_ranks,
    world_size,
)
from llara_core.training.flops import utilisation_of
from llara_core.training.health import HealthWatch, MeanCosine, not_finite, peak_memory
from llara_core.training.parameter_groups import parameter_groups
from llara_core.training.resume import ResumableTrainer
from llara_core.training.sharding import MICRO_BATCHES
from llara_core.training.spread_weights import prepare_for_fsdp

logger = logging.getLogger(__name__)

OnLog = Callable[[int, dict[str, float]], None]


@dataclass
class StageResult:
    """What a stage measured.

    Args:
        curve: one mapping a log line: ``step``, ``loss`` and its terms (nats, mean since the last line),
            ``learning_rate``, ``grad_norm``, ``tokens_per_second``, ``padding_waste``,
            ``peak_memory_gib`` (of the process that needs most), ``seconds_left``, and on a GPU that
            ``gpus.yaml`` knows ``model_flops_utilisation`` (share of the peak of all GPUs).
        seconds: wall time of the steps.
        tokens: real tokens seen by all processes.
        padding_waste: share of positions that were padding.
    """

    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    tokens: int = 0
    padding_waste: float = 0.0


class StageTrainer(ResumableTrainer):
    """transformers' Trainer for a module that maps a micro-batch to its share of the step's loss.

    Args:
        stage: name for messages.
        on_log: called by the main process with the step and the logged values.
        embedding_learning_rate: of input and output embeddings; None: the same as all else.
        arguments: passed on to ``ResumableTrainer``, e.g. ``checkpoints``.
    """

    def __init__(
        self, *, stage: str, on_log: OnLog | None, embedding_learning_rate: float | None, **arguments: Any
    ) -> None:
        self.on_log = on_log
        self.embedding_learning_rate = embedding_learning_rate
        self.result = StageResult()
        self.watch = HealthWatch(stage)
        self._cosine = MeanCosine()
        self._sums: dict[str, Any] = {}  # since the last log line, of this process
        self._steps_summed = self._positions = 0
        self._losses: list[Tensor] = []  # of the step's micro-batches
        self._rows: list[Tensor | None] = []
        self._started = self._window = time.perf_counter()
        self._earlier_seconds = 0.0  # of the runs that this one resumes
        self._first_step = 0
        self._objective = arguments["model"]  # as it is before anything wraps it
        super().__init__(stage=stage, **arguments)
        self._counts = torch.zeros(2, dtype=torch.long, device=self.args.device)
        self._utilisation = utilisation_of(self.model, self.args)
        if self.is_fsdp_enabled:
            prepare_for_fsdp(self.model, self.accelerator.state.fsdp_plugin)

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

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Forward and backward of this process's share of a step, one micro-batch after the other.

        Each loss is a share of the step's sum. Processes average their gradients, so it is multiplied by
        their number; the sum over all micro-batches and processes then is the gradient of the whole step.

        Returns:
            The detached sum of the losses of this process.
        """
        model.train()
        # Not `_prepare_inputs`, which rounds targets' weights to bfloat16 under DeepSpeed.
        micro_batches = send_to_device(inputs[MICRO_BATCHES], self.args.device)
        # Where weights are gathered for each pass, all processes need as many.
        rounds = len(micro_batches) + missing_calls(len(micro_batches))
        total = torch.zeros((), device=self.args.device)
        self._losses, self._rows = [], []
        for number in range(rounds):
            last = number == rounds - 1
            with self._sync(model, last=last):
                if number < len(micro_batches):
                    loss = self.compute_loss(model, micro_batches[number])
                    total = total + loss.detach()
                else:  # keeps collectives of sharded parameters in step; adds nothing
                    loss = model({**micro_batches[-1]})["loss"] * 0.0
                self._backward(loss * world_size(), last=last)
        self._add_up(self._cosine.end_step())
        self._steps_summed += 1
        return total

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """A micro-batch's share of the loss; adds its terms and token counts to the current log line."""
        # Sums stay on the device: reading one would make a GPU wait for us.
        self._counts = self._counts + inputs.pop("counts")
        rows = inputs.pop("row_ids", None)
        self._rows.append(rows)
        if self._utilisation is not None:
            self._utilisation.add(inputs)
        terms = model(inputs)
        vectors = getattr(self._objective, "embeddings", None)
        if vectors is not None:
            self._cosine.add(vectors if rows is None else vectors[: len(rows)])
        self._add_up(terms)
        self._losses.append(terms["loss"].detach())
        return (terms["loss"], terms) if return_outputs else terms["loss"]

    def _add_up(self, terms: dict[str, Tensor]) -> None:
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach()

    @property
    def _shards_weights(self) -> bool:
        return self.accelerator.distributed_type in {DistributedType.FSDP, DistributedType.DEEPSPEED}

    def _sync(self, model: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
        # Replicas exchange gradients once a step. FSDP reduces those of every micro-batch instead, because
        # waiting would mean whole, unsharded gradients on every GPU; DeepSpeed has its own boundary.
        if last or self._shards_weights or world_size() == 1:
            return nullcontext()
        return cast(AbstractContextManager[Any], self.accelerator.no_sync(model))

    def _backward(self, loss: Tensor, *, last: bool) -> None:
        arguments: dict[str, Any] = {}
        if self.accelerator.distributed_type == DistributedType.DEEPSPEED:
            # DeepSpeed has no `no_sync`: accelerate tells its engine from this flag which backward pass ends
            # the step. The engine then updates the weights at once, so the loss is checked before that.
            self.accelerator.gradient_state._set_sync_gradients(last)
            arguments["scale_wrt_gas"] = False  # the losses are shares of a sum already
            if last:
                self._check(None)
        self.accelerator.backward(loss, **arguments)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        # Called with the gradients of the whole step, before the optimiser uses them.
        norm: Any = super()._get_grad_norm(model, grad_norm)  # type: ignore[no-untyped-call]
        if hasattr(norm, "full_tensor"):  # FSDP: each process holds a part of the sum
            norm = norm.full_tensor()
        self._check(norm)
        return norm

    def _check(self, norm: Any) -> None:
        """Stop all processes at the same step when a loss or the gradient is not finite.

        Raises:
            TrainingError: names the step, and where it happened.
        """
        values = [*self._losses] if norm is None else [*self._losses, torch.as_tensor(norm)]
        # One number is read from the GPU, once a step.
        sum_of_all = torch.stack([value.double().to(self.args.device) for value in values]).sum()
        if math.isfinite(sum_over_ranks({"sum": float(sum_of_all)})["sum"]):
            return
        losses = [float(loss) for loss in self._losses]
        bad = next((number for number, loss in enumerate(losses) if not math.isfinite(loss)), None)
        place = "" if bad is None else f", process {rank()}, micro-batch {bad}{_rows_named(self._rows[bad])}"
        where = next((found for found in all_texts(place) if found), "")
        raise not_finite(
            self.stage,
            self.state.global_step + 1,
            self.args.max_steps,
            "loss" if where else "gradient",
            where,
            self.last_checkpoint,
            applied=norm is not None and self.accelerator.distributed_type == DistributedType.DEEPSPEED,
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Turn the Trainer's log line into ours and hand it on; every process takes part in the sums."""
        if "loss" not in logs or not self._steps_summed:  # the closing summary of the Trainer
            return
        now, step = time.perf_counter(), self.state.global_step
        terms = sum_over_ranks({name: float(value) for name, value in self._sums.items()})
        totals = self._count_tokens()
        line = {name: terms[name] / self._steps_summed for name in self._sums}
        cosines, pairs = line.pop("cosine_sum", 0.0), line.pop("cosine_pairs", 0.0)
        if pairs:
            line["mean_cosine"] = cosines / pairs
        line["learning_rate"] = float(logs["learning_rate"])
        line["grad_norm"] = float(logs.get("grad_norm", 0.0))
        line["tokens_per_second"] = totals["real"] / max(now - self._window, 1e-9)
        line["padding_waste"] = 1.0 - totals["real"] / max(totals["padded"], 1.0)
        line["peak_memory_gib"] = largest_over_ranks({"peak": peak_memory()})["peak"] / 2**30
        if self._utilisation is not None:
            line["model_flops_utilisation"] = self._utilisation.since_last(now - self._window)
        pace = (now - self._started) / (step - self._first_step)
        line["seconds_left"] = pace * (self.args.max_steps - step)
        self.result.curve.append({"step": float(step), **line})
        self._sums, self._steps_summed, self._window = {}, 0, now
        if is_main():
            self.watch.observe(step, line)
            if self.on_log is not None:
                self.on_log(step, line)

    def _count_tokens(self) -> dict[str, float]:
        """Real tokens and positions of all processes since the last time; adds them to the result."""
        real, padded = self._counts.tolist()
        totals = sum_over_ranks({"real": real, "padded": padded})
        self.result.tokens += int(totals["real"])
        self._positions += int(totals["padded"])
        self._counts = torch.zeros(2, dtype=torch.long, device=self.args.device)
        return totals

    def progress_state(self) -> dict[str, Any]:
        """Everything that this process has measured so far, as JSON can hold it.

        The sums since the last log line are those of this process alone; the rest is the same everywhere.
        """
        return {
            "curve": self.result.curve,
            "tokens": self.result.tokens,
            "positions": self._positions,
            "sums": {name: float(value) for name, value in self._sums.items()},
            "steps_summed": self._steps_summed,
            "counts": self._counts.tolist(),
            "seconds": self._earlier_seconds + time.perf_counter() - self._started,
            "watch": self.watch.state(),
        }

    def restore_progress(self, state: dict[str, Any], step: int) -> None:
        """Go on from ``progress_state()``; called before ``train()``.

        Args:
            state: of this process.
            step: steps that are done.
        """
        self.result.curve[:] = state["curve"]
        self.result.tokens, self._positions = state["tokens"], state["positions"]
        self._sums, self._steps_summed = dict(state["sums"]), state["steps_summed"]
        self._counts = torch.tensor(state["counts"], dtype=torch.long, device=self.args.device)
        self._earlier_seconds, self._first_step = state["seconds"], step
        self.watch.restore(state["watch"])

    def finish(self) -> StageResult:
        """The measured result, once training has ended; all processes take part."""
        self._count_tokens()
        self.result.seconds = self._earlier_seconds + time.perf_counter() - self._started
        self.result.padding_waste = 1.0 - self.result.tokens / max(self._positions, 1)
        return self.result


def _rows_named(rows: Tensor | None) -> str:
    return "" if rows is None or not len(rows) else f", rows {', '.join(str(row) for row in rows.tolist())}"
