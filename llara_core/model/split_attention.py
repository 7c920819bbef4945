"""The joint layout's attention on a CPU: causal over what is text in every row, masked for the rest alone.

``sdpa`` with a mask computes the whole square of scores and masks half of it away; only without a mask does
it skip the upper triangle. Behind the columns that are text in every row (they see all before them and
nothing else) come the branches and the padding: the last columns, whose scores need the mask.

``attention.attention_masks`` gives a decoder that uses ``SPLIT_SDPA`` the mask's last rows alone
[B, 1, T - n, T], and the kernel takes the first n queries to be causal. Given a mask of all rows, or none,
it is ``sdpa``: the states are the same either way.

Source: issue 3, point 14 (speed of the adaptation step).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

SPLIT_SDPA = "llara_split_sdpa"
# Where fewer columns are text in every row, the mask costs less than the second call.
SHORTEST = 256


def use_split_attention(decoder: Any, device: str) -> None:
    """Let a decoder that runs ``sdpa`` on a CPU skip what no text token looks at; any other stays as it is.

    Args:
        decoder: the model without its output head, of a family for which the tests show the equality.
        device: type of the device that it will run on, e.g. ``cpu``.
    """
    if device == "cpu" and decoder.config._attn_implementation == "sdpa":
        decoder.config._attn_implementation = SPLIT_SDPA


def causal_columns(text: Tensor) -> int:
    """How many of the first columns are text in every row; 0 where splitting there would not pay.

    Args:
        text: bool [B, T], true where a token is prefix or text.
    """
    count = int(text.all(dim=0).long().cumprod(dim=0).sum())
    return count if SHORTEST <= count < text.shape[1] else 0


def split_sdpa(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
) -> tuple[Tensor, None]:
    """Attention as transformers asks for it: states [B, T, H, D] of T queries; no scores.

    Args:
        module: the layer.
        query: [B, H, T, D]; ``key`` and ``value`` may have fewer heads.
        key: [B, G, T, D].
        value: [B, G, T, D].
        attention_mask: additive [B, 1, M, T] of the last M queries; M = T, or None, is plain ``sdpa``.
        options: as ``sdpa`` takes them: scaling, dropout, …
    """
    split = 0 if attention_mask is None else query.shape[2] - attention_mask.shape[2]
    if split <= 0:
        return _sdpa(module, query, key, value, attention_mask, **options)
    text = (part[:, :, :split] for part in (query, key, value))
    first, _ = _sdpa(module, *text, None, **{**options, "is_causal": True})
    last, _ = _sdpa(module, query[:, :, split:], key, value, attention_mask, **options)
    return torch.cat([first, last], dim=1), None


def _sdpa(*arguments: Any, **options: Any) -> tuple[Tensor, None]:
    result: tuple[Tensor, None] = sdpa_attention_forward(*arguments, **options)
    return result


AttentionInterface.register(SPLIT_SDPA, split_sdpa)
# A kernel without a mask function of its own is given None for a mask: padding would count.
AttentionMaskInterface.register(SPLIT_SDPA, sdpa_mask)
