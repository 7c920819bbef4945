"""What several processes need of each other; without a process group there is one process, rank 0."""

from __future__ import annotations

import atexit
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from llara_core.errors import TrainingError

logger = logging.getLogger(__name__)

# Long enough for the main process to write a large model while the others wait. A launcher of ours says what
# its settings say, in seconds.
PATIENCE = "LLARA_PATIENCE"
TIMEOUT = timedelta(minutes=30)


def connect() -> None:
    """Join the processes that ``accelerate launch`` or ``torchrun`` started; one process joins nothing.

    Called before anything that only one process may do. Sets this process's GPU, so that ``cuda`` means its
    own. A process that waits for another longer than ``$LLARA_PATIENCE`` seconds, by default ``TIMEOUT``,
    ends with an error instead of hanging.
    """
    if launched_processes() == 1 or dist.is_initialized():
        return
    from accelerate import PartialState

    told = os.environ.get(PATIENCE)
    state = PartialState(cpu=use_cpu(), timeout=timedelta(seconds=float(told)) if told else TIMEOUT)
    atexit.register(leave)
    if state.device.type == "cuda":
        torch.cuda.set_device(state.device)
    logger.info("process %d of %d on %s", rank(), world_size(), state.device)


def leave() -> None:
    """Leave the group, if this process is in one; it does so at its end, however it comes there.

    Threads of the communication library that live when the interpreter is taken down can abort a process
    that has done all of its work, and its launcher would call the training failed.
    """
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def launched_processes() -> int:
    """How many processes the launcher started, connected or not."""
    # torchrun and accelerate set the first, MPI launchers one of the others.
    names = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
    return max(int(os.environ.get(name) or 1) for name in names)


def use_cpu() -> bool:
    """Whether training runs on the CPU: there is no GPU, or the launcher was told so."""
    asked = os.environ.get("ACCELERATE_USE_CPU", "").lower() in {"1", "true", "yes"}
    return asked or not torch.cuda.is_available()


def spreads_weights() -> bool:
    """Whether the launcher asked for FSDP or DeepSpeed, which leave each process a part of the weights."""
    names = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    return any(os.environ.get(name, "").lower() in {"1", "true"} for name in names)


def missing_calls(mine: int) -> int:
    """How many more times this process must call the model, because another one calls it more often.

    Where weights are spread, each call gathers them from all processes, so all must make as many.

    Args:
        mine: calls that this process has work for.
    """
    if world_size() == 1 or not spreads_weights():
        return 0
    return int(largest_over_ranks({"calls": mine})["calls"]) - mine


def starting_device() -> str:
    """Where a model is loaded before training: on the CPU if its weights are to be spread.

    Each process then moves its own part to its GPU; the whole may not fit on one.
    """
    return "cpu" if spreads_weights() else training_device()


def training_device() -> str:
    """Where this process trains: its own GPU, or the CPU."""
    return "cpu" if use_cpu() else "cuda"


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if _connected() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if _connected() else 0


def is_main() -> bool:
    """Whether this process writes files and log lines."""
    return rank() == 0


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        dist.barrier()


def sum_over_ranks(values: Mapping[str, float]) -> dict[str, float]:
    """Each value summed over all processes, in float64; every process gives the same names.

    Args:
        values: of this process.
    """
    return _reduced(values, dist.ReduceOp.SUM)


def largest_over_ranks(values: Mapping[str, float]) -> dict[str, float]:
    """The largest of each value over all processes."""
    return _reduced(values, dist.ReduceOp.MAX)


def sum_of_tensors(tensor: Tensor) -> Tensor:
    """A tensor summed over all processes, each of which has one of the same shape."""
    if world_size() == 1:
        return tensor
    total = tensor.to(_device(), copy=True)
    dist.all_reduce(total)
    return total.to(tensor.device)


def all_texts(text: str) -> list[str]:
    """The text that each process has to say, in order of rank."""
    if world_size() == 1:
        return [text]
    mine = torch.tensor(list(text.encode()), dtype=torch.uint8, device=_device())
    sizes = [torch.zeros(1, dtype=torch.long, device=_device()) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor([len(mine)], device=_device()))
    lengths = [int(size) for size in sizes]
    everything = gather_rows(mine, lengths)
    return [bytes(part.tolist()).decode() for part in torch.split(everything, lengths)]


def run_on_main(work: Callable[[], str]) -> str:
    """Let the main process do what only one may do, such as writing files; the others wait for it.

    Args:
        work: done by the main process; what it returns, e.g. a path, is known to all.

    Raises:
        TrainingError: in the other processes, when the work failed in the main process (which raises its
            own error), so that nobody waits for a process that has gone.
    """
    result, failure = "", None
    if is_main():
        try:
            result = work()
        except Exception as error:
            failure = error
    said = all_texts(json.dumps([result, None if failure is None else str(failure)]) if is_main() else "")
    if failure is not None:
        raise failure
    answer, trouble = json.loads(said[0])
    if trouble is not None:
        raise TrainingError(f"the main process failed: {trouble}")
    return str(answer)


def _reduced(values: Mapping[str, float], operation: Any) -> dict[str, float]:
    if world_size() == 1:
        return {name: float(value) for name, value in values.items()}
    names = sorted(values)
    numbers = torch.tensor([float(values[name]) for name in names], dtype=torch.float64, device=_device())
    dist.all_reduce(numbers, op=operation)
    return dict(zip(names, numbers.tolist(), strict=True))


def gather_rows(tensor: Tensor, sizes: Sequence[int]) -> Tensor:
    """The rows of all processes, in order of rank: [B_rank, ...] → [sum of ``sizes``, ...].

    Differentiable: what every process's loss asks of a row is summed and returned to the process that
    computed it. All processes must call it, forward and backward, in the same order.

    Args:
        tensor: this process's rows.
        sizes: how many rows each process has; every process knows them.

    Raises:
        ValueError: ``tensor`` has another number of rows than ``sizes`` says.
    """
    if len(sizes) != world_size() or tensor.shape[0] != sizes[rank()]:
        raise ValueError(
            f"process {rank()} of {world_size()} has {tensor.shape[0]} rows, but sizes say {list(sizes)}"
        )
    if world_size() == 1:
        return tensor
    rows: Tensor = _GatherRows.apply(tensor, tuple(sizes))  # type: ignore[no-untyped-call]
    return rows


class _GatherRows(torch.autograd.Function):
    """All-gather along dim 0; the gradient is reduced over all processes."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, sizes: tuple[int, ...]) -> Tensor:
        ctx.sizes = sizes
        # Collectives want equal shapes: shares are padded to the longest.
        longest = max(sizes)
        mine = tensor.new_zeros((longest, *tensor.shape[1:]))
        mine[: len(tensor)] = tensor
        shares = [torch.empty_like(mine) for _ in sizes]
        dist.all_gather(shares, mine)
        return torch.cat([share[:size] for share, size in zip(shares, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        first = sum(ctx.sizes[: rank()])
        return total[first : first + ctx.sizes[rank()]], None


def _connected() -> bool:
    return dist.is_available() and dist.is_initialized()


def _device() -> torch.device:
    # NCCL only moves what lies on a GPU, and float64 as well.
    return torch.device(training_device())
