"""Tiny random decoders of many families, and the separate passes that a joint pass has to equal.

Weights are drawn wider than a model's own initialisation would: attention is then far from uniform, and
a wrong mask or position shows.
"""

from __future__ import annotations

from functools import cache

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from llara_core.model.backbone import decoder_of

WINDOW = 6
MIXED = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 64}
EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}

# What a family needs beside ``COMMON``; every window is wide unless a test narrows it.
FAMILIES: dict[str, dict] = {
    "cohere": {},
    "cohere2": MIXED,
    "falcon": {"alibi": False},
    "gemma": {},
    "gemma2": MIXED,  # soft-capped
    "gemma3_text": MIXED,  # one rotary base for each kind of layer
    "glm4": {},
    "gpt2": {},  # learned positions
    "gpt_neox": {},
    "gpt_oss": {**MIXED, **EXPERTS},  # attention sinks
    "granite": {},
    "llama": {},
    "mistral": {"sliding_window": 64},
    "mixtral": {"sliding_window": 64, **EXPERTS},
    "olmo2": {},
    "olmo3": MIXED,
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 64},  # learned positions
    "phi": {},
    "phi3": {"sliding_window": 64},
    "qwen2": {**MIXED, "use_sliding_window": True},
    "qwen3": {**MIXED, "use_sliding_window": True},
    "qwen3_moe": {**EXPERTS, "sliding_window": 64, "use_sliding_window": True},
    "smollm3": {"no_rope_layers": [1, 0], "use_sliding_window": False},  # rotary in the first layer only
    "stablelm": {},
    "starcoder2": {"sliding_window": 64},
}
WINDOWED = [family for family, settings in FAMILIES.items() if "sliding_window" in settings]
COMMON = {
    "vocab_size": 64, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
NO_HEAD_DIM = {"falcon"}
NO_SDPA = {"gemma2", "gpt_oss"}  # transformers refuses it: soft-capping, attention sinks
NO_FLEX = {"falcon", "gpt2", "stablelm", "gpt_oss"}  # transformers refuses it; sinks need a GPU


@cache
def tiny(family: str, kernel: str = "sdpa", window: int | None = None) -> torch.nn.Module:
    """A causal language model in eval mode; the same weights for every kernel and window.

    Args:
        family: key of ``FAMILIES``.
        kernel: attention implementation.
        window: of the sliding layers; None: wider than any row of the tests.
    """
    settings = {**COMMON, **FAMILIES[family]}
    if family not in NO_HEAD_DIM:
        settings["head_dim"] = 16
    if window is not None:
        settings["sliding_window"] = window
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(family, **settings), attn_implementation=kernel
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weights in sorted(model.named_parameters()):
            spread = 0.2 if weights.ndim > 1 else 0.05
            mean = 1.0 if weights.ndim == 1 and "norm" in name and "bias" not in name else 0.0
            weights.copy_(mean + spread * torch.randn(weights.shape, generator=generator))
    return model.eval()  # some have dropout by default


def kernels_of(family: str) -> list[str]:
    """The kernels that can compute a family's gradients on a CPU."""
    return ["eager"] if family in NO_SDPA else ["sdpa", "eager"]


def alone(model: torch.nn.Module, row: list[int]) -> torch.Tensor:
    """Final hidden states [T, D] of one sequence in a batch of its own: no padding, no mask of ours."""
    ids = torch.tensor([row], device=model.device)
    mask = torch.ones_like(ids)
    return decoder_of(model)(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state[0]


def slots_alone(
    model: torch.nn.Module, texts: list[list[int]], suffixes: tuple[list[int], list[int]], slots: int
) -> torch.Tensor:
    """Slot states [B, 2, S, D] of separate passes, one per text and prompt."""
    return torch.stack(
        [torch.stack([alone(model, [*text, *end])[-slots:] for end in suffixes]) for text in texts]
    )


def gradient(model: torch.nn.Module, states: torch.Tensor) -> torch.Tensor:
    """All parameters' gradients of a fixed weighted mean of the states."""
    model.zero_grad()
    weights = torch.linspace(-1, 1, states.numel(), device=states.device).reshape(states.shape)
    (states * weights).mean().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
