"""A piece of the forward pass that keeps nothing but its result, and is computed again when it is needed.

Source: GradCache (arXiv 2101.06983) does so for the sub-batches of a contrastive step; issue 3, point 5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from llara_core.training.distributed import world_size


def recomputed(function: Callable[..., Tensor], module: nn.Module, *arguments: Any) -> Tensor:
    """``function(module, *arguments)``: the same value and, with the same dropout, the same gradients.

    ``torch.utils.checkpoint`` does it, except on a CPU in a single process: checkpointing keeps the skeleton
    of each piece's graph, thousands of small blocks of memory between the large ones that come and go, and
    the C library's allocator then reuses little: 256 pieces took 20 times the memory of one. There the graph
    is built in the backward pass alone.

    Args:
        function: of the module and the arguments.
        module: whose trainable weights get gradients.
        arguments: nothing that needs a gradient.
    """
    weights = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if world_size() > 1 or any(parameter.device.type != "cpu" for parameter in weights):
        return cast(Tensor, checkpoint(function, module, *arguments, use_reentrant=False))
    return cast(Tensor, cast(Any, _Recomputed).apply(lambda: function(module, *arguments), *weights))


class _Recomputed(torch.autograd.Function):
    """No graph in the forward pass; in the backward pass the whole piece, forward and backward."""

    @staticmethod
    def forward(ctx: Any, piece: Callable[[], Tensor], *weights: Tensor) -> Tensor:
        ctx.piece, ctx.weights = piece, weights
        ctx.random = torch.get_rng_state()
        ctx.autocast = {"enabled": torch.is_autocast_enabled("cpu"), "dtype": torch.get_autocast_dtype("cpu")}
        with torch.no_grad(), _autocast(ctx):
            return piece()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        with torch.random.fork_rng(devices=[]), torch.enable_grad(), _autocast(ctx):
            torch.set_rng_state(ctx.random)
            result = ctx.piece()
        return (None, *torch.autograd.grad(result, ctx.weights, gradients[0], allow_unused=True))


def _autocast(ctx: Any) -> torch.autocast:
    # Without its cache: a weight that was cast under no_grad would stay without a gradient.
    return torch.autocast("cpu", cache_enabled=False, **ctx.autocast)
