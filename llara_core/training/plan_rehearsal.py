"""A training step on tensors that have a shape but no numbers: how much memory and arithmetic it takes.

The step's own code runs — the objective, transformers' layers, autograd — on ``FakeTensor``s, which know
shape, dtype and lifetime and hold nothing. Every allocation is seen when it is made and when it is freed, so
the peak is that of the code as it is, for any family, with and without adapters or checkpointing; no formula
has to be kept in step with it. Token ids and lengths are real, because batches are cut by them.

What it does not see: the optimiser (added: two moments per trained parameter), the buffers of several
processes, the allocator, and kernels that another device would choose (``docs/guides/plan.md``).

Source: issue 3, point 10.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from llara_core.training.plan_watch import (
    ACTIVATIONS,
    GRADIENTS,
    KINDS,
    LOGITS,
    MISSING_FORMULAS,
    TEMPORARY,
    WEIGHTS,
    Watch,
)

__all__ = [
    "ACTIVATIONS", "GRADIENTS", "KINDS", "LOGITS", "MISSING_FORMULAS", "OPTIMIZER", "TEMPORARY", "WEIGHTS",
    "Bytes", "Rehearsal", "rehearse",
]  # fmt: skip

OPTIMIZER = "optimizer"
# Adam keeps the mean of the gradient and of its square, each in the parameter's own dtype.
MOMENTS = 2

Bytes = dict[str, float]  # by kind


@dataclass(frozen=True)
class Rehearsal:
    """What one process's share of a step takes, on a device that holds everything.

    Args:
        parameters: number of parameters, adapters included.
        trained: number of those that are trained.
        gradients: bytes of all gradients.
        optimizer: bytes of Adam's two moments.
        moments: bytes that are alive, by kind, at the worst moment of the forward pass, of the first and of
            the second half of the backward pass; without the optimiser's.
        flops: floating-point operations, as executed: recomputation is counted, a multiplication and an
            addition are two.
        positions: token positions computed, padding included.
        micro_batches: number of forward and backward passes.
        largest: positions of the largest of them.
    """

    parameters: float
    trained: float
    gradients: float
    optimizer: float
    moments: tuple[Bytes, Bytes, Bytes]
    flops: float
    positions: float
    micro_batches: float
    largest: float

    @property
    def worst(self) -> int:
        """Number of the worst moment."""
        totals = [sum(moment.values()) for moment in self.moments]
        return totals.index(max(totals))

    @property
    def parts(self) -> Bytes:
        """Bytes by kind at the worst moment, the optimiser's moments among them."""
        return {**self.moments[self.worst], OPTIMIZER: self.optimizer}

    @property
    def peak(self) -> float:
        """Bytes at the worst moment."""
        return sum(self.parts.values())

    def combine(self, function: Callable[..., float], *others: Rehearsal) -> Rehearsal:
        """Every number of this rehearsal and of others put through a function.

        Args:
            function: takes one number of each.
            others: rehearsals of the same step at other sizes.
        """
        every = (self, *others)
        names = [field.name for field in fields(self) if field.name != "moments"]
        values = {name: function(*(getattr(one, name) for one in every)) for name in names}
        moments = [
            {kind: function(*(one.moments[number][kind] for one in every)) for kind in KINDS}
            for number in range(len(self.moments))
        ]
        return Rehearsal(**values, moments=(moments[0], moments[1], moments[2]))


def rehearse(
    module: nn.Module,
    micro_batches: Sequence[Mapping[str, Tensor]],
    vocabulary: int,
    *,
    bfloat16: bool = False,
) -> Rehearsal:
    """Run the largest micro-batch of a share without numbers.

    Where there are several, it finds the gradients of the others in place, and all operations are taken to be
    in proportion to the positions.

    Args:
        module: the objective, built on the meta device: it maps a micro-batch to ``loss``.
        micro_batches: as ``StepBatches.part`` gives them; at least one.
        vocabulary: width V of the logits.
        bfloat16: under automatic mixed precision, as ``mixed_precision: bf16`` does.
    """
    watch = Watch(vocabulary)
    sizes = [int(batch["counts"][1]) for batch in micro_batches]
    worst = sizes.index(max(sizes))
    with FakeTensorMode(allow_non_fake_inputs=True), watch:
        _give_shapes(module)
        parameters = list(module.parameters())
        trained = [weights for weights in parameters if weights.requires_grad]
        for weights in trained:
            cast(Any, weights).register_post_accumulate_grad_hook(watch.keep_gradient)
            if len(sizes) > 1:
                weights.grad = torch.empty_like(weights)
                watch.keep_gradient(weights)
        forward = watch.start(ACTIVATIONS)
        inputs = {
            name: tensor for name, tensor in micro_batches[worst].items() if name not in ("counts", "row_ids")
        }
        with torch.autocast("cpu", torch.bfloat16) if bfloat16 else nullcontext():
            loss = module(inputs)["loss"]
        backward = watch.start(TEMPORARY)
        loss.backward()
        gradients = sum(_bytes(weights.grad) for weights in trained if weights.grad is not None)
    half = len(backward) // 2
    return Rehearsal(
        parameters=sum(weights.numel() for weights in parameters),
        trained=sum(weights.numel() for weights in trained),
        gradients=gradients,
        optimizer=MOMENTS * sum(_bytes(weights) for weights in trained),
        moments=(_highest(forward), _highest(backward[:half]), _highest(backward[half:])),
        flops=watch.flops * sum(sizes) / max(sizes[worst], 1),
        positions=sum(sizes),
        micro_batches=len(sizes),
        largest=sizes[worst],
    )


def _highest(history: Sequence[tuple[int, ...]]) -> Bytes:
    highest = max(history, key=sum)
    return dict(zip(KINDS, map(float, highest), strict=True))


def _give_shapes(module: nn.Module) -> None:
    """Put tensors of the CPU's kind, without numbers, in the place of the module's meta tensors."""
    made: dict[int, Tensor] = {}  # tied weights stay one

    def stand_in(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            fake = torch.empty(tensor.shape, dtype=tensor.dtype)
            trained = tensor.requires_grad
            made[id(tensor)] = nn.Parameter(fake, trained) if isinstance(tensor, nn.Parameter) else fake
        return made[id(tensor)]

    for part in module.modules():
        for tensors in cast(tuple[dict[str, Any], ...], (part._parameters, part._buffers)):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = stand_in(tensor)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
