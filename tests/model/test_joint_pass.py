"""One joint pass equals two separate passes, for every family, padding side and kernel."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from llara_core.errors import ModelError
from llara_core.model.backbone import decoder_of
from llara_core.model.joint_pass import (
    check_joint_support,
    joint_hidden_states,
    joint_layout,
    joint_mask,
    joint_positions,
)

FAMILIES = ["llama", "qwen2", "qwen3", "mistral", "gpt_neox", "gemma2"]
TEXTS = [[5, 6, 7, 8, 9], [5], [10, 11, 12]]
EBAE, EBAR = [20, 30, 31], [21, 22, 32, 33]


def tiny(family: str, attention: str = "sdpa") -> torch.nn.Module:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        family, vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=64,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    # eval: GPT-NeoX has dropout by default
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


def separate(decoder, text: list[int], suffix: list[int]) -> torch.Tensor:
    """Slot states of one prompt alone in a batch of one: no padding, no mask of ours."""
    ids = torch.tensor([[*text, *suffix]])
    return decoder(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).last_hidden_state[
        0, -2:
    ]


def gradient(model: torch.nn.Module, states: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    weights = torch.linspace(-1, 1, states.numel()).reshape(states.shape)
    (states * weights).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("family", "attention"),
    [(family, "sdpa") for family in FAMILIES if family != "gemma2"]  # soft-capped: eager only
    + [(family, "eager") for family in FAMILIES],
)
def test_joint_equals_two_passes(family: str, attention: str, side: str) -> None:
    model = tiny(family, attention)
    decoder = decoder_of(model)
    layout = joint_layout(TEXTS, EBAE, EBAR, slots=2, pad_id=0, padding_side=side)
    joint = joint_hidden_states(decoder, layout)
    alone = torch.stack(
        [torch.stack([separate(decoder, text, suffix) for suffix in (EBAE, EBAR)]) for text in TEXTS]
    )
    torch.testing.assert_close(joint, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(gradient(model, joint), gradient(model, alone), atol=2e-5, rtol=1e-4)


def test_second_branch_does_not_see_the_first() -> None:
    decoder = decoder_of(tiny("llama"))
    one = joint_hidden_states(decoder, joint_layout(TEXTS, EBAE, EBAR, slots=2, pad_id=0))
    other = joint_hidden_states(decoder, joint_layout(TEXTS, [23, 40, 41], EBAR, slots=2, pad_id=0))
    assert torch.equal(one[:, 1], other[:, 1])
    assert not torch.allclose(one[:, 0], other[:, 0])


def test_mask_and_positions_by_hand() -> None:
    layout = joint_layout([[7, 8], [7]], [20], [30], slots=1, pad_id=0, padding_side="left")
    assert layout.input_ids.tolist() == [[7, 8, 20, 30], [0, 7, 20, 30]]
    assert joint_positions(layout.segments).tolist() == [[0, 1, 2, 2], [0, 0, 1, 1]]
    assert layout.slots.tolist() == [[[2], [3]], [[2], [3]]]
    seen = (joint_mask(layout.segments, torch.float32) == 0).long()
    assert seen[0, 0].tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]]
    assert seen[1, 0].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 1]]


def test_unsupported_models_are_refused() -> None:
    decoder = decoder_of(tiny("mistral"))
    decoder.config.sliding_window = 16
    with pytest.raises(ModelError, match="window of 16"):
        check_joint_support(decoder, 17)
    check_joint_support(decoder, 16)
    with pytest.raises(ModelError, match="64 positions"):
        check_joint_support(decoder_of(tiny("llama")), 65)
    config = AutoConfig.for_model("bloom", vocab_size=64, hidden_size=32, n_layer=1, n_head=2)
    with pytest.raises(ModelError, match="position ids"):
        check_joint_support(decoder_of(AutoModelForCausalLM.from_config(config)), 8)
