"""Next-token cross entropy from hidden states: no logits of more than one chunk, none computed twice.

The gradients with respect to hidden states and output embedding are worked out in the forward pass, while
a chunk's logits are at hand: three matrix products in all, where recomputing logits would take four and
keeping them [N, V] memory. Source: issue 3, point 4; the idea is known from Liger-Kernel's fused linear
cross entropy, which is used on CUDA where it is installed.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

# Logit values that exist at one time, in float32: 128 MiB on a CPU, whose matrix products are no faster
# with more rows, and 1 GiB elsewhere.
CPU_VALUES, DEVICE_VALUES = 1 << 25, 1 << 28
# Rows of a head that is more than a linear layer.
RECOMPUTED_ROWS = 1024


@dataclass(frozen=True)
class Head:
    """A model's output head: logits = cap * tanh(scale * (states @ weight.T + bias) / cap).

    Args:
        weight: [V, D].
        bias: [V], or None.
        scale: factor of the logits (Cohere, Granite).
        cap: soft-capping (Gemma 2), or None.
    """

    weight: Tensor
    bias: Tensor | None
    scale: float = 1.0
    cap: float | None = None

    @classmethod
    def of(cls, model: Any) -> Head | None:
        """The head of a causal language model, or None where it is more than a plain linear layer.

        Adapters, quantised weights and weights that are sharded at this moment (FSDP, ZeRO-3) are such.
        """
        layer = model.get_output_embeddings()
        # A FakeTensor is a plain weight too: `llara plan` rehearses the step with it.
        if type(layer) is not nn.Linear or type(layer.weight) not in (nn.Parameter, FakeTensor):
            return None
        if tuple(layer.weight.shape) != (layer.out_features, layer.in_features) or _has_hooks(layer):
            return None
        return cls(layer.weight, layer.bias, *scale_and_cap(model))


def _has_hooks(layer: nn.Module) -> bool:
    # What hooks do to a layer (gather its shards, move it between devices) happens only when it is called.
    return bool(layer._forward_pre_hooks or layer._forward_hooks or hasattr(layer, "_hf_hook"))


def scale_and_cap(model: Any) -> tuple[float, float | None]:
    """Factor of the logits, and soft-capping or None, as the model's configuration gives them."""
    config = model.config.get_text_config()
    scale = float(getattr(config, "logit_scale", None) or 1.0)  # Cohere multiplies
    scale /= float(getattr(config, "logits_scaling", None) or 1.0)  # Granite divides
    return scale, getattr(config, "final_logit_softcapping", None)  # Gemma 2


def finish_logits(logits: Tensor, scale: float, cap: float | None) -> Tensor:
    """The head's raw products [..., V] → logits, in float32 at least, scaled and soft-capped."""
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    if scale != 1.0:
        logits = logits * scale
    return torch.tanh(logits / cap) * cap if cap else logits


def output_logits(model: Any, states: Tensor) -> Tensor:
    """Logits [..., V] (float32 at least) of final hidden states [..., D], as the model's forward gives them.

    Args:
        model: causal language model; soft-capping and scaling of its configuration are applied.
        states: final hidden states.
    """
    return finish_logits(model.get_output_embeddings()(states), *scale_and_cap(model))


def summed_cross_entropy(model: Any, states: Tensor, targets: Tensor) -> Tensor:
    """Sum of the cross entropies of N predictions, nats; 0 with a graph when N is 0.

    Args:
        model: causal language model, perhaps with adapters; its output head makes the logits.
        states: final hidden states [N, D].
        targets: int64 [N], the token that follows each.

    Returns:
        A scalar, float32 at least. It can be differentiated once.
    """
    head = Head.of(model)
    if head is None:
        return _recomputed(model, states, targets)
    values = CPU_VALUES if states.device.type == "cpu" else DEVICE_VALUES
    if states.is_cuda and len(targets) and head.scale == 1.0 and _liger_installed():
        return _liger(head, states, targets)
    return fused_cross_entropy(head, states, targets, max(1, values // head.weight.shape[0]))


def fused_cross_entropy(head: Head, states: Tensor, targets: Tensor, chunk: int) -> Tensor:
    """Sum of cross entropies with gradients made in the forward pass.

    Under autocast the products are made in its dtype; sums and the weight's gradient are float32.

    Args:
        head: of the model; a frozen weight gets no gradient and costs none.
        states: [N, D].
        targets: int64 [N].
        chunk: rows whose logits exist at one time.
    """
    kind = states.device.type
    compute = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else head.weight.dtype
    way = _Way(head.scale, head.cap, chunk, compute)
    loss: Tensor = _FusedCrossEntropy.apply(states, head.weight, head.bias, targets, way)  # type: ignore[no-untyped-call]
    return loss


@dataclass(frozen=True)
class _Way:
    """How the logits are made: factor, soft-capping, rows at one time, dtype of the products."""

    scale: float
    cap: float | None
    chunk: int
    compute: torch.dtype


class _FusedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        way: _Way,
    ) -> Tensor:
        wanted = ctx.needs_input_grad[:3]
        offset = None if bias is None else bias.to(way.compute)
        head = Head(weight.to(way.compute), offset, way.scale, way.cap)
        with torch.autocast(states.device.type, enabled=False):
            loss, gradients = _loss_and_gradients(head, states, targets, way.chunk, wanted)
        originals = (states, weight, weight)
        ctx.save_for_backward(
            *(
                None if part is None else part.to(like.dtype)
                for part, like in zip(gradients, originals, strict=True)
            )
        )
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        # In place: the gradients are ours alone, and a second copy of the weight's would be [V, D].
        scaled = [None if part is None else part.mul_(grad_output) for part in ctx.saved_tensors]
        return (*scaled, None, None)


def _loss_and_gradients(
    head: Head, states: Tensor, targets: Tensor, chunk: int, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor, tuple[Tensor | None, Tensor | None, Tensor | None]]:
    """Summed cross entropy and its gradients for states [N, D], weight and bias, where wanted."""
    wide = torch.promote_types(head.weight.dtype, torch.float32)
    on_states = torch.empty_like(states) if wanted[0] else None
    on_weight = torch.zeros_like(head.weight, dtype=wide) if wanted[1] else None
    on_bias = head.weight.new_zeros(len(head.weight), dtype=wide) if wanted[2] else None
    losses = states.new_zeros(len(targets), dtype=wide)
    room = states.new_empty(min(chunk, len(targets)), len(head.weight), dtype=wide)
    for start in range(0, len(targets), chunk):
        rows = slice(start, start + chunk)
        part, labels = states[rows].to(head.weight.dtype), targets[rows, None]
        logits = _logits(head, part, room[: len(part)])
        # Gemma 2's cap: d cap*tanh(x/cap) / dx = 1 - tanh(x/cap)^2.
        slope = None if head.cap is None else 1.0 - (logits / head.cap) ** 2
        error = torch.softmax(logits, dim=1, out=logits)
        losses[rows] = _negative_log(error.gather(1, labels)[:, 0], head, part, labels)
        if not any(wanted):
            continue
        error.scatter_add_(1, labels, error.new_full((1, 1), -1.0).expand_as(labels))
        if slope is not None:
            error.mul_(slope)
        if head.scale != 1.0:
            error.mul_(head.scale)
        _add_gradients(head, part, error, None if on_states is None else on_states[rows], on_weight, on_bias)
    return losses.sum(), (on_states, on_weight, on_bias)


def _negative_log(likelihoods: Tensor, head: Head, part: Tensor, labels: Tensor) -> Tensor:
    """-log of the targets' likelihoods [n]; of those that underflowed from their logits, made again."""
    losses = -likelihoods.log()
    lost = (likelihoods < torch.finfo(likelihoods.dtype).tiny).nonzero()[:, 0]
    if len(lost):
        room = likelihoods.new_empty(len(lost), len(head.weight))
        logits = _logits(head, part[lost], room)
        losses[lost] = logits.logsumexp(dim=1) - logits.gather(1, labels[lost])[:, 0]
    return losses


def _logits(head: Head, part: Tensor, room: Tensor) -> Tensor:
    """Logits of a chunk [n, V] in ``room``, where its dtype is that of the products."""
    if room.dtype == part.dtype:
        torch.mm(part, head.weight.T, out=room)
    else:
        room.copy_(part @ head.weight.T)
    if head.bias is not None:
        room.add_(head.bias)
    if head.scale != 1.0:
        room.mul_(head.scale)
    return room if head.cap is None else room.div_(head.cap).tanh_().mul_(head.cap)


def _add_gradients(
    head: Head,
    part: Tensor,
    error: Tensor,
    on_states: Tensor | None,
    on_weight: Tensor | None,
    on_bias: Tensor | None,
) -> None:
    """Add a chunk's share, from the derivative ``error`` [n, V] of its summed loss by the raw logits."""
    if on_bias is not None:
        on_bias.add_(error.sum(dim=0))
    error = error.to(part.dtype)
    if on_states is not None:
        on_states.copy_(error @ head.weight)
    if on_weight is None:
        return
    if on_weight.dtype == part.dtype:
        on_weight.addmm_(error.T, part)
    else:
        on_weight.add_(error.T @ part)


def _recomputed(model: Any, states: Tensor, targets: Tensor) -> Tensor:
    """The same through the head as it is, in chunks whose logits are computed again in the backward pass."""

    def chunk_loss(chunk: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(output_logits(model, chunk), labels, reduction="sum")

    total = states.new_zeros((), dtype=torch.promote_types(states.dtype, torch.float32)) + states.sum() * 0.0
    pieces = (torch.split(part, RECOMPUTED_ROWS) for part in (states, targets))
    for chunk, labels in zip(*pieces, strict=True):
        total = total + checkpoint(chunk_loss, chunk, labels, use_reentrant=False)
    return total


@cache
def _liger_installed() -> bool:
    return importlib.util.find_spec("liger_kernel") is not None


def _liger(head: Head, states: Tensor, targets: Tensor) -> Tensor:
    """Liger-Kernel's Triton kernels for the same sum."""
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    loss: Tensor = liger_fused_linear_cross_entropy(
        states, head.weight, targets, bias=head.bias, softcap=head.cap, reduction="sum"
    )
    return loss
