"""Which earlier tokens a token of the joint layout may look at, as the mask each attention kernel takes.

A token looks at the text of its own row and at its own branch, never at another branch or row, and not
further back than the layer's attention window, counted in positions *within the branch*: exactly what it
would see if its prompt were a sequence of its own.

The mask's form depends on the kernel: additive [B, 1, T, T] for ``sdpa`` and ``eager`` (boolean is right
under the first and silently wrong under the second), a ``BlockMask`` for ``flex_attention``. Models whose
layers differ (``config.layer_types``: Gemma 2 and 3, Qwen, OLMo 3, …) take one mask per kind of layer, in
a dictionary; a single 4-D mask is taken by every layer as it is, so the window has to be in it.

Source: issue 3, points 2 and 4; transformers' ``masking_utils`` for the off-by-one of windows.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from llara_core.errors import ModelError
from llara_core.model.split_attention import SPLIT_SDPA, causal_columns

PADDING, TEXT, EBAE, EBAR = 0, 1, 2, 3

FULL, SLIDING = "full_attention", "sliding_attention"

# What the code of a model with windows imports from transformers' masking_utils.
WINDOWED_MASK = "create_sliding_window_causal_mask"

# Their configs may hold layer_types, but all their layers take the one mask of the window.
IGNORE_LAYER_TYPES = ("mistral", "ministral3")


def layer_windows(decoder: Any) -> dict[str, int | None]:
    """How far back each kind of layer looks, in tokens, itself included; None: to the start.

    Args:
        decoder: the model without its output head.

    Raises:
        ModelError: a kind of layer is no causal attention over earlier tokens (recurrent, convolutional,
            chunked, sparse, …), so that its states depend on the order in which both branches lie.
    """
    config = decoder.config
    code = sys.modules[type(decoder).__module__]
    # A config may name a window that its model never looks at (a Mistral turned Llama, for one).
    window = getattr(config, "sliding_window", None) if hasattr(code, WINDOWED_MASK) else None
    if not getattr(config, "use_sliding_window", True):
        window = None
    kinds = getattr(config, "layer_types", None)
    if not kinds or config.model_type in IGNORE_LAYER_TYPES:
        return {FULL: window}
    known = {FULL: None, SLIDING: window}
    foreign = sorted(set(kinds) - set(known))
    if foreign:
        raise ModelError(
            f"models of type {config.model_type!r} have layers of kind {', '.join(foreign)}, so the two "
            "prompts of a text cannot share one pass; choose a decoder whose layers all are "
            "full_attention or sliding_attention (Llama, Qwen3, Mistral, Gemma, …)"
        )
    return {kind: known[kind] for kind in known if kind in kinds}


def layout_positions(segments: Tensor, documents: Tensor | None = None) -> Tensor:
    """Position ids int64 [B, T]: from 0 in every row; both branches start where the text ends.

    Args:
        segments: int64 [B, T]: 0 padding, 1 prefix and text, 2 EBAE branch, 3 EBAR branch.
        documents: int64 [B, T]: which row of a packed sequence a token belongs to, -1 for padding;
            None: one row per sequence.
    """
    real = segments != PADDING
    running = real.long().cumsum(dim=1) - 1
    first_branch = (segments == EBAE).long().cumsum(dim=1)
    if documents is not None:
        start = documents != documents.roll(1, dims=1)
        start[:, 0] = True
        # What was counted before the row began; counts never fall, so a running maximum carries it on.
        running = running - (running * start).cummax(dim=1).values
        before = first_branch - (segments == EBAE).long()
        first_branch = first_branch - (before * start).cummax(dim=1).values
    return (running - first_branch * (segments == EBAR)).masked_fill(~real, 0)


def allowed_pairs(
    segments: Tensor, documents: Tensor | None = None, window: int | None = None, first: int = 0
) -> Tensor:
    """Bool [B, T - first, T]: may the query (dim 1) look at the key (dim 2)?

    Padding looks at itself, so that no softmax runs over nothing (which would be NaN).

    Args:
        segments: int64 [B, T].
        documents: int64 [B, T], as in ``layout_positions``.
        window: tokens that a query sees, itself included; None: all earlier ones.
        first: the first query.
    """
    query, key = segments[:, first:, None], segments[:, None, :]
    allowed = key == query  # then in place: [B, T, T] is large
    allowed |= key == TEXT
    allowed &= key != PADDING
    if documents is not None:
        allowed &= documents[:, first:, None] == documents[:, None, :]
    if window is not None:
        positions = layout_positions(segments, documents)
        allowed &= positions[:, first:, None] - positions[:, None, :] < window
    allowed = allowed.tril_(diagonal=first)
    allowed.diagonal(offset=first, dim1=1, dim2=2).fill_(True)
    return allowed


def dense_mask(
    segments: Tensor,
    dtype: torch.dtype,
    documents: Tensor | None = None,
    window: int | None = None,
    first: int = 0,
) -> Tensor:
    """Additive mask [B, 1, T - first, T] for ``sdpa`` and ``eager``: 0 where a query may look, else minimum.

    Args:
        segments: int64 [B, T].
        dtype: the dtype of the model's hidden states.
        documents: int64 [B, T], as in ``layout_positions``.
        window: as in ``allowed_pairs``.
        first: the first query.
    """
    allowed = allowed_pairs(segments, documents, window, first)
    zero = torch.zeros((), dtype=dtype, device=segments.device)
    return torch.where(allowed, zero, torch.finfo(dtype).min)[:, None]


def joint_block_mask(segments: Tensor, documents: Tensor | None = None, window: int | None = None) -> Any:
    """The same rule as a ``BlockMask`` [B, 1, T, T] for ``flex_attention``: blocks of nothing are skipped.

    Args:
        segments: int64 [B, T].
        documents: int64 [B, T], as in ``layout_positions``.
        window: as in ``allowed_pairs``.
    """
    from torch.nn.attention.flex_attention import create_block_mask

    rows, width = segments.shape
    if documents is None:
        documents = torch.zeros_like(segments)
    positions = layout_positions(segments, documents)
    reach = window or 0

    def look(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        kind = segments[row, key]
        same = (kind == TEXT) | (kind == segments[row, query])
        together = documents[row, query] == documents[row, key]
        return (query == key) | ((key <= query) & (kind != PADDING) & same & together)

    def look_near(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        near = positions[row, query] - positions[row, key] < reach
        return look(row, head, query, key) & near

    # Uncompiled, it writes the whole [B, T, T] out first, which on a GPU costs more than the attention.
    make = torch.compile(create_block_mask) if segments.device.type == "cuda" else create_block_mask
    rule = look if window is None else look_near
    return make(rule, rows, None, width, width, device=segments.device)


def check_kernel(decoder: Any, training: bool) -> None:
    """Refuse a kernel that takes no mask of ours, or would compute something else with it.

    Args:
        decoder: the model without its output head.
        training: gradients are wanted too.

    Raises:
        ModelError: the kernel takes no 4-D mask, ignores the model's soft-capping, or cannot be trained.
    """
    config, kernel = decoder.config, decoder.config._attn_implementation
    # Some versions of transformers drop the cap under sdpa and say nothing.
    if kernel in ("sdpa", SPLIT_SDPA) and getattr(config, "attn_logit_softcapping", None):
        raise ModelError(
            f"models of type {config.model_type!r} cap their attention scores, which sdpa cannot do; "
            "set model.attention to eager or flex_attention"
        )
    if kernel not in ("sdpa", SPLIT_SDPA, "eager", "flex_attention"):
        raise ModelError(
            f"attention {kernel!r} takes no mask of ours, so the two prompts cannot share one pass; "
            "set model.attention to sdpa, eager or flex_attention"
        )
    if kernel != "flex_attention" or not training:
        return
    if getattr(config, "attention_dropout", 0.0):
        raise ModelError(
            f"flex_attention cannot drop attention weights (attention_dropout is {config.attention_dropout}"
            "); set it to 0 in the model's config.json, or model.attention to sdpa"
        )
    if decoder.device.type == "cpu":
        raise ModelError(
            "flex_attention has no backward pass on the CPU; set model.attention to sdpa, or train on a GPU"
        )


def attention_masks(decoder: Any, segments: Tensor, documents: Tensor | None = None) -> Any:
    """What a decoder takes as ``attention_mask`` for the joint layout, packed or not.

    Args:
        decoder: the model without its output head.
        segments: int64 [B, T].
        documents: int64 [B, T], as in ``layout_positions``.

    Returns:
        A mask [B, 1, T, T] (tensor or ``BlockMask``), or a dictionary of them by kind of layer where the
        rows are longer than the window of some layers. For ``SPLIT_SDPA`` its last rows alone, where the
        first queries are causal in every row and every layer.

    Raises:
        ModelError: the model has layers of an unknown kind.
    """
    kernel = decoder.config._attn_implementation
    windows = _binding(layer_windows(decoder), segments, documents)
    plain = kernel == SPLIT_SDPA and documents is None and not any(windows.values())
    first = causal_columns(segments == TEXT) if plain else 0

    def build(window: int | None) -> Any:
        if kernel == "flex_attention":
            return joint_block_mask(segments, documents, window)
        return dense_mask(segments, _mask_dtype(decoder, segments), documents, window, first)

    masks = {window: build(window) for window in set(windows.values())}
    if len(masks) == 1:
        return masks.popitem()[1]
    return {kind: masks[window] for kind, window in windows.items()}


def _binding(
    windows: dict[str, int | None], segments: Tensor, documents: Tensor | None
) -> dict[str, int | None]:
    """The windows, but None where no row is longer: one mask then serves all layers."""
    shortest = min((window for window in windows.values() if window is not None), default=None)
    if shortest is None or segments.shape[1] <= shortest:
        return dict.fromkeys(windows)
    longest = int(layout_positions(segments, documents).max()) + 1
    return {kind: window if window and window < longest else None for kind, window in windows.items()}


def _mask_dtype(decoder: Any, segments: Tensor) -> torch.dtype:
    device = segments.device.type
    # Under autocast queries have its dtype; a float32 mask would be converted once more in every layer.
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    dtype: torch.dtype = decoder.dtype
    return dtype
