"""InfoNCE of many rows against many candidates, block by block: the scores never exist all at once.

The gradients of both sides' embeddings are worked out in the forward pass, while a block's scores are at
hand (as ``fused_cross_entropy`` does for words), so that of a step with a gradient cache nothing but the
embeddings [N, D] and the mask of false negatives (a byte a pair) grows with the batch.

Source: issue 3, point 5 (gradient caching at constant memory).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Scores that exist at one time. Fewer than these are computed at once, with autograd.
BLOCK_SCORES = 1 << 20


def blockwise_info_nce(
    queries: Tensor, passages: Tensor, pairs: tuple[Tensor, Tensor, Tensor, Tensor], temperature: float
) -> tuple[Tensor, Tensor]:
    """What ``contrastive.info_nce`` gives for ``queries[rows] @ passages.T / temperature``.

    Args:
        queries: [Q, D], embeddings.
        passages: [P, D].
        pairs: of N rows: their queries int64 [N], own columns int64 [N], candidates that are no negatives
            bool [N, P], and weights float [N].
        temperature: that the cosines are divided by.

    Returns:
        The weighted sum of the losses, nats, which can be differentiated once, and of who ranks first.
    """
    found: tuple[Tensor, Tensor] = _BlockwiseInfoNce.apply(queries, passages, temperature, *pairs)  # type: ignore[no-untyped-call]
    return found


class _BlockwiseInfoNce(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, passages: Tensor, temperature: float, *pairs: Tensor
    ) -> tuple[Tensor, Tensor]:
        rows, targets, masked, weights = pairs
        weights = weights.to(queries.dtype)
        wanted = any(ctx.needs_input_grad[:2])
        on_queries, on_passages = torch.zeros_like(queries), torch.zeros_like(passages)
        loss, first = queries.new_zeros(()), queries.new_zeros(())
        size = max(1, BLOCK_SCORES // max(len(passages), 1))
        for start in range(0, len(rows), size):
            block = slice(start, start + size)
            part, weight, own = queries[rows[block]], weights[block], targets[block, None]
            scores = (part @ passages.T).div_(temperature)
            scores.masked_fill_(masked[block], torch.finfo(scores.dtype).min)
            losses = scores.logsumexp(dim=1) - scores.gather(1, own)[:, 0]
            loss += losses @ weight
            first += (scores.argmax(dim=1) == own[:, 0]).to(weight.dtype) @ weight
            if wanted:
                error = torch.softmax(scores, dim=1, out=scores)
                error.scatter_add_(1, own, error.new_full((1, 1), -1.0).expand_as(own))
                error.mul_(weight[:, None] / temperature)
                on_queries.index_add_(0, rows[block], error @ passages)
                on_passages.addmm_(error.T, part)
        ctx.save_for_backward(on_queries, on_passages)
        ctx.mark_non_differentiable(first)
        return loss, first

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        on_queries, on_passages = ctx.saved_tensors
        return on_queries.mul_(grad_loss), on_passages.mul_(grad_loss), None, None, None, None, None
