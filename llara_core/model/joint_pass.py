"""One forward pass for both prompts of a text: the layout, its attention mask and its positions.

A row is ``[prefix text] [EBAE suffix, slots] [EBAR suffix, slots]`` plus padding on either side. The
second branch attends to the text and to itself, not to the first branch, and reuses its positions, so
that its hidden states are those of a separate pass over ``[prefix text] [EBAR suffix, slots]``.

Source: LLaRA (arXiv 2312.15503), section 3.2; issue 3, point 2.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from llara_core.errors import ModelError

PADDING, TEXT, EBAE, EBAR = 0, 1, 2, 3


@dataclass(frozen=True)
class JointLayout:
    """Token ids of B rows and where their parts lie.

    Args:
        input_ids: int64 [B, T].
        segments: int64 [B, T]: 0 padding, 1 prefix and text, 2 EBAE branch, 3 EBAR branch.
        slots: int64 [B, 2, S]: columns of the slots, EBAE first.
    """

    input_ids: Tensor
    segments: Tensor
    slots: Tensor


def joint_layout(
    texts: Sequence[Sequence[int]],
    ebae_suffix: Sequence[int],
    ebar_suffix: Sequence[int],
    *,
    slots: int,
    pad_id: int,
    padding_side: Literal["left", "right"] = "right",
) -> JointLayout:
    """Lay out B texts with both prompts behind each.

    Args:
        texts: token ids of prefix and text, row by row.
        ebae_suffix: ids of the first branch, its slots last.
        ebar_suffix: ids of the second branch, its slots last.
        slots: slots per branch, S.
        pad_id: id that fills padding.
        padding_side: where padding goes; the hidden states do not depend on it.
    """
    tail = [*ebae_suffix, *ebar_suffix]
    width = max(len(text) for text in texts) + len(tail)
    input_ids = torch.full((len(texts), width), pad_id, dtype=torch.long)
    segments = torch.full((len(texts), width), PADDING, dtype=torch.long)
    branches = torch.tensor([EBAE] * len(ebae_suffix) + [EBAR] * len(ebar_suffix), dtype=torch.long)
    ends = torch.empty(len(texts), 2, dtype=torch.long)
    for row, text in enumerate(texts):
        length = len(text) + len(tail)
        start = width - length if padding_side == "left" else 0
        input_ids[row, start : start + length] = torch.tensor([*text, *tail], dtype=torch.long)
        segments[row, start : start + len(text)] = TEXT
        segments[row, start + len(text) : start + length] = branches
        ends[row, 0] = start + len(text) + len(ebae_suffix)
        ends[row, 1] = start + length
    columns = ends[:, :, None] + torch.arange(-slots, 0)[None, None, :]
    return JointLayout(input_ids, segments, columns)


def joint_positions(segments: Tensor) -> Tensor:
    """Position ids of the joint layout, int64 [B, T]; both branches start where the text ends.

    Args:
        segments: int64 [B, T], as in ``JointLayout``.
    """
    real = segments != PADDING
    running = real.long().cumsum(dim=1) - 1
    first_branch = (segments == EBAE).sum(dim=1, keepdim=True)
    running = running - first_branch * (segments == EBAR)
    return running.masked_fill(~real, 0)


def joint_mask(segments: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive attention mask [B, 1, T, T] of the joint layout: 0 where a query may look, else the minimum.

    Additive, because a boolean mask is right under ``sdpa`` and silently wrong under ``eager``.
    Padding looks at itself, so that no softmax runs over nothing (which would be NaN).

    Args:
        segments: int64 [B, T], as in ``JointLayout``.
        dtype: the dtype of the model's hidden states.
    """
    width = segments.shape[1]
    query, key = segments[:, :, None], segments[:, None, :]
    causal = torch.ones(width, width, dtype=torch.bool, device=segments.device).tril()
    allowed = causal & (key != PADDING) & ((key == TEXT) | (key == query))
    allowed = allowed | torch.eye(width, dtype=torch.bool, device=segments.device)
    mask = torch.zeros(allowed.shape, dtype=dtype, device=segments.device)
    return mask.masked_fill(~allowed, torch.finfo(dtype).min)[:, None]


def joint_hidden_states(decoder: Any, layout: JointLayout) -> Tensor:
    """Final hidden states of all slots [B, 2, S, D] in one pass, EBAE first.

    Args:
        decoder: the model without its output head (``backbone.decoder_of``).
        layout: B rows.
    """
    states = joint_forward(decoder, layout)
    rows = torch.arange(states.shape[0], device=states.device)[:, None, None]
    return states[rows, layout.slots]


def joint_forward(decoder: Any, layout: JointLayout) -> Tensor:
    """Final hidden states of every position [B, T, D] of the joint layout."""
    # The mask is always given: with none, transformers takes restarting positions for packed sequences.
    output = decoder(
        input_ids=layout.input_ids,
        attention_mask=joint_mask(layout.segments, decoder.dtype),
        position_ids=joint_positions(layout.segments),
        use_cache=False,
    )
    states: Tensor = output.last_hidden_state
    return states


def check_joint_support(decoder: Any, longest: int) -> None:
    """Refuse a model for which the joint pass would not equal two separate passes.

    Args:
        decoder: the model without its output head.
        longest: the most positions that one branch has, prompt included.

    Raises:
        ModelError: the model takes no position ids (ALiBi, recurrent), its attention window is shorter
            than the rows (a mask of our own would widen it), or it has too few learned positions.
    """
    config = decoder.config
    if "position_ids" not in inspect.signature(decoder.forward).parameters:
        raise ModelError(
            f"models of type {config.model_type!r} take no position ids, so the two prompts cannot share "
            "one pass; choose a decoder with rotary or learned positions (Llama, Qwen, Mistral, Gemma, …)"
        )
    window = getattr(config, "sliding_window", None)
    if getattr(config, "use_sliding_window", True) and window is not None and longest > window:
        raise ModelError(
            f"rows of up to {longest} tokens exceed the model's attention window of {window}; "
            "lower adapt.text_length, or choose a model with full attention"
        )
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and longest > positions:
        raise ModelError(
            f"rows of up to {longest} tokens exceed the model's {positions} positions; "
            "lower the lengths in the settings (for a model from scratch: raise from_scratch.max_positions)"
        )
