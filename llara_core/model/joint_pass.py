"""One forward pass for both prompts of a text: the layout, its attention mask and its positions.

A row is ``[prefix text] [EBAE suffix, slots] [EBAR suffix, slots]`` plus padding on either side. The
second branch attends to the text and to itself, not to the first branch, and reuses its positions, so
that its hidden states are those of a separate pass over ``[prefix text] [EBAR suffix, slots]``.

``layout_forward(decoder, input_ids, segments, documents=None) -> [B, T, D]`` is the one function that
computes it, for rows of their own and for rows that share sequences (``packing``). Masks and positions
are in ``attention``; ``check_joint_support`` refuses a model for which the equality would not hold.

Source: LLaRA (arXiv 2312.15503), section 3.2; issue 3, points 2 and 4.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from llara_core.errors import ModelError
from llara_core.model.attention import (
    EBAE,
    EBAR,
    PADDING,
    TEXT,
    attention_masks,
    check_kernel,
    dense_mask,
    layer_windows,
    layout_positions,
)

__all__ = [
    "EBAE", "EBAR", "PADDING", "TEXT", "JointLayout", "check_joint_support", "joint_forward",
    "joint_hidden_states", "joint_layout", "joint_mask", "joint_positions", "layout_forward",
    "verify_joint_pass",
]  # fmt: skip

# Families for which the tests show the equality under every kernel; others prove it on their own weights.
TESTED_FAMILIES = frozenset({
    "cohere", "gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "granite", "llama", "mistral", "mixtral",
    "olmo2", "opt", "phi", "phi3", "qwen2", "qwen3", "smollm3", "starcoder2",
})  # fmt: skip


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
    return layout_positions(segments)


def joint_mask(segments: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive attention mask [B, 1, T, T] of the joint layout, without a window (``attention.dense_mask``).

    Args:
        segments: int64 [B, T], as in ``JointLayout``.
        dtype: the dtype of the model's hidden states.
    """
    return dense_mask(segments, dtype)


def layout_forward(
    decoder: Any, input_ids: Tensor, segments: Tensor, documents: Tensor | None = None
) -> Tensor:
    """Final hidden states [B, T, D] of every position, each token's as in its prompt's own pass.

    Args:
        decoder: the model without its output head (``backbone.decoder_of``); any attention kernel.
        input_ids: int64 [B, T].
        segments: int64 [B, T], as in ``JointLayout``.
        documents: int64 [B, T] of packed sequences (row within the sequence, -1 padding); None: one row
            per sequence.

    Raises:
        ModelError: the model has layers that no mask can make independent of the other branch.
    """
    # The mask is always given: with none, transformers takes restarting positions for packed sequences.
    output = decoder(
        input_ids=input_ids,
        attention_mask=attention_masks(decoder, segments, documents),
        position_ids=layout_positions(segments, documents),
        use_cache=False,
    )
    states: Tensor = output.last_hidden_state
    return states


def joint_forward(decoder: Any, layout: JointLayout) -> Tensor:
    """Final hidden states of every position [B, T, D] of the joint layout."""
    return layout_forward(decoder, layout.input_ids, layout.segments)


def joint_hidden_states(decoder: Any, layout: JointLayout) -> Tensor:
    """Final hidden states of all slots [B, 2, S, D] in one pass, EBAE first.

    Args:
        decoder: the model without its output head (``backbone.decoder_of``).
        layout: B rows.
    """
    states = joint_forward(decoder, layout)
    rows = torch.arange(states.shape[0], device=states.device)[:, None, None]
    return states[rows, layout.slots]


def check_joint_support(decoder: Any, longest: int, *, training: bool = False) -> None:
    """Refuse a model for which the joint pass would not equal two separate passes.

    Families outside ``TESTED_FAMILIES``, code that is not transformers' own, and rows longer than a
    layer's attention window are also tried out (``verify_joint_pass``).

    Args:
        decoder: the model without its output head.
        longest: the most positions that one branch has, prompt included.
        training: gradients are wanted too.

    Raises:
        ModelError: the model takes no position ids (ALiBi, recurrent), looks ahead, has layers that are
            no attention over all earlier tokens of a row, would lose its soft-capping, has too few
            positions, cannot be trained with its attention kernel, or fails the trial.
    """
    config = decoder.config
    if "position_ids" not in inspect.signature(decoder.forward).parameters or getattr(config, "alibi", False):
        raise ModelError(
            f"models of type {config.model_type!r} take no position ids (recurrent, or ALiBi), so the two "
            "prompts cannot share one pass; choose a decoder with rotary or learned positions "
            "(Llama, Qwen, Mistral, Gemma, …)"
        )
    if getattr(config, "use_bidirectional_attention", False) or not getattr(config, "is_causal", True):
        raise ModelError(
            f"this model of type {config.model_type!r} looks ahead (its config says so), so it is no "
            "decoder; choose a causal one, or set use_bidirectional_attention false in its config.json"
        )
    windows = layer_windows(decoder)
    _check_length(config, longest)
    check_kernel(decoder, training)
    known = config.model_type in TESTED_FAMILIES and type(decoder).__module__.startswith("transformers.")
    windowed = any(window is not None and window < longest for window in windows.values())
    if not known or windowed:
        verify_joint_pass(decoder, longest)


def _check_length(config: Any, longest: int) -> None:
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and longest > positions:
        raise ModelError(
            f"rows of up to {longest} tokens exceed the model's {positions} positions; "
            "lower the lengths in the settings (for a model from scratch: raise from_scratch.max_positions)"
        )


def verify_joint_pass(decoder: Any, longest: int = 32) -> float:
    """Compare one joint pass with separate passes on the model itself: a short row, and one of ``longest``.

    Args:
        decoder: the model without its output head; its weights, mode and gradients stay as they are.
        longest: the most positions that one branch has, prompt included.

    Returns:
        The deviation of a branch's states, relative to their length; the largest of all branches.

    Raises:
        ModelError: it exceeds the tolerance of the model's dtype, or the model does not take the mask.
    """
    kind, kernel = decoder.config.model_type, decoder.config._attn_implementation
    modes = [(module, module.training) for module in decoder.modules()]
    decoder.eval()  # dropout would differ between the passes
    try:
        joint, alone = _both_ways(decoder, longest)
    except torch.OutOfMemoryError:
        raise
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"models of type {kind!r} do not take a mask of ours under attention {kernel!r} "
            f"({type(error).__name__}: {str(error)[:200]}); "
            "try model.attention: eager, or choose another decoder (Llama, Qwen, Mistral, Gemma, …)"
        ) from error
    finally:
        for module, mode in modes:
            module.training = mode
    relative = (joint - alone).float().norm(dim=-1) / alone.float().norm(dim=-1)
    # A mean over a branch: in half precision, one token of a mixture of experts may take another expert.
    deviation = float(relative.mean(dim=-1).max())
    tolerance = _tolerance(alone.dtype)
    if not deviation <= tolerance:  # also if it is NaN
        raise ModelError(
            f"this model of type {kind!r} computes other slot states when both prompts share a pass "
            f"(relative deviation {deviation:.2g}, allowed {tolerance:g}): it does not follow the mask "
            "or the position ids it is given; choose another decoder (Llama, Qwen, Mistral, Gemma, …)"
        )
    return deviation


def _tolerance(dtype: torch.dtype) -> float:
    """Above rounding (float32: 1e-6), below what a wrong mask or position does (3e-3 and more)."""
    if dtype == torch.float64 or (
        dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest"
    ):
        return 1e-4
    return 0.05  # bfloat16, float16, or float32 with TF32 products


@torch.no_grad()
def _both_ways(decoder: Any, longest: int) -> tuple[Tensor, Tensor]:
    """Branch states [2, 2, S, D] of random rows, by one joint pass and by separate ones."""
    # Half the row is prompt, and all of it is compared: the first tokens of the second branch lie far from
    # the text that they follow, so that windows or positions counted by column show in them.
    branch = max(2, longest // 2)
    text = max(1, longest - branch)
    generator = torch.Generator().manual_seed(0)
    vocabulary = decoder.config.get_text_config().vocab_size

    def draw(count: int) -> list[int]:
        ids: list[int] = torch.randint(vocabulary, (count,), generator=generator).tolist()
        return ids

    texts, suffixes = [draw(min(3, text)), draw(text)], (draw(branch), draw(branch))
    layout = joint_layout(texts, *suffixes, slots=branch, pad_id=0, padding_side="left")
    device = decoder.device
    layout = JointLayout(*(part.to(device) for part in (layout.input_ids, layout.segments, layout.slots)))
    alone = [[_alone(decoder, [*row, *suffix])[-branch:] for suffix in suffixes] for row in texts]
    return joint_hidden_states(decoder, layout), torch.stack([torch.stack(pair) for pair in alone])


def _alone(decoder: Any, row: list[int]) -> Tensor:
    """Final hidden states [T, D] of one sequence by itself, with transformers' own mask."""
    ids = torch.tensor([row], device=decoder.device)
    states: Tensor = decoder(
        input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False
    ).last_hidden_state
    return states[0]
