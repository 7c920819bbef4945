"""Encoding reads a decoder's last states at the slots only, so its last layer need not compute the rest.

Keys and values of the last layer are needed at every position. Its queries, its output projection and its
MLP are needed where the last states are read: at the S slots of a row, not at all T positions. All of them
work position by position, so within ``slots_only`` they are given the slots' rows alone, through PyTorch's
public hooks, and what they return is laid back among zeros. The other positions of the last states are then
meaningless; the slots' are what they were, but for the rounding of smaller matrix products.

One layer of 32 is 3% of a large model; of a model of two layers it is half.
Source: issue 4, points 1 and 9; tests/model/test_last_layer.py shows the equality for each family.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

# Families for which the tests show that slots do not change when padding on the right is not masked.
SEES_NO_PADDING = frozenset({
    "cohere", "cohere2", "gemma", "gemma2", "gemma3_text", "glm4", "gpt_neox", "granite", "llama",
    "mistral", "mixtral", "olmo2", "olmo3", "opt", "phi", "phi3", "qwen2", "qwen3", "qwen3_moe", "smollm3",
    "stablelm", "starcoder2",
})  # fmt: skip
# Of these, the ones whose last layer has parts that work position by position and return one tensor.
SLOTS_SUFFICE = SEES_NO_PADDING - {"opt"}
POSITION_WISE = ("mlp", "self_attn.q_proj", "self_attn.o_proj", "self_attn.dense")


def sees_no_padding(decoder: Any) -> bool:
    """Whether real positions are known to come out the same without a mask over padding on the right.

    Args:
        decoder: the model without its output head.
    """
    return _known(decoder, SEES_NO_PADDING)


def _known(decoder: Any, families: frozenset[str]) -> bool:
    config = decoder.config
    ahead = getattr(config, "use_bidirectional_attention", False) or not getattr(config, "is_causal", True)
    own = type(decoder).__module__.startswith("transformers.")
    return own and not ahead and config.model_type in families


class SlotRows:
    """Where the slots of the current batch lie, and the hooks that go by it."""

    def __init__(self) -> None:
        self.places: tuple[Tensor, Tensor]  # rows [B, 1], columns [B, S]: ``encoding.embed`` sets them
        self._shape: tuple[int, int] = (0, 0)

    def gather(self, module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Before a part: of its input [B, T, D] the slots' rows [B, S, D]."""
        states: Tensor = arguments[0]
        self._shape = (states.shape[0], states.shape[1])
        return (states[self.places], *arguments[1:])

    def scatter(self, module: Any, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        """After it: its output [B, S, E] among zeros [B, T, E]."""
        whole = output.new_zeros(*self._shape, output.shape[-1])
        whole[self.places] = output
        return whole


@contextmanager
def slots_only(decoder: Any) -> Iterator[SlotRows | None]:
    """Within the block, the last layer computes the slots' rows only; None where that is not known to hold.

    Args:
        decoder: the model without its output head; must not be used by another thread meanwhile.
    """
    parts = _parts(decoder)
    if not parts:
        yield None
        return
    rows = SlotRows()
    handles = [part.register_forward_pre_hook(rows.gather) for part in parts]
    handles += [part.register_forward_hook(rows.scatter) for part in parts]
    try:
        yield rows
    finally:
        for handle in handles:
            handle.remove()


def _parts(decoder: Any) -> list[Any]:
    if not _known(decoder, SLOTS_SUFFICE) or not hasattr(decoder, "layers"):
        return []
    last = decoder.layers[-1]
    named = dict(last.named_modules())
    return [named[name] for name in POSITION_WISE if name in named]
