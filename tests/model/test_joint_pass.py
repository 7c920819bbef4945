"""Layout, mask and positions of the joint pass by hand, and which models it refuses."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from llara_core.errors import ModelError
from llara_core.model.attention import allowed_pairs, attention_masks, layer_windows
from llara_core.model.backbone import decoder_of
from llara_core.model.joint_pass import (
    check_joint_support,
    joint_hidden_states,
    joint_layout,
    joint_mask,
    joint_positions,
    layout_forward,
    verify_joint_pass,
)
from tests.oracles.decoder_families import COMMON, gradient, slots_alone, tiny

TEXTS = [[5, 6, 7, 8, 9], [5], [10, 11, 12]]
EBAE, EBAR = [20, 30, 31], [21, 22, 32, 33]


def build(family: str, kernel: str = "eager", **settings: object) -> torch.nn.Module:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**COMMON, **settings})
    return decoder_of(AutoModelForCausalLM.from_config(config, attn_implementation=kernel)).eval()


def altered(decoder: torch.nn.Module, **settings: object) -> torch.nn.Module:
    """A copy whose config says something else."""
    other = copy.deepcopy(decoder)
    for name, value in settings.items():
        setattr(other.config, name, value)
    return other


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


def test_window_counts_positions_within_the_branch() -> None:
    layout = joint_layout([[7, 8]], [20, 21], [30, 31], slots=1, pad_id=0)
    seen = allowed_pairs(layout.segments, window=3).long()[0].tolist()
    # Positions 0 1 | 2 3 | 2 3: a query sees itself and the two positions before it.
    assert seen[2] == [1, 1, 1, 0, 0, 0]
    assert seen[3] == [0, 1, 1, 1, 0, 0]
    assert seen[4] == [1, 1, 0, 0, 1, 0]
    assert seen[5] == [0, 1, 0, 0, 1, 1]


def test_masks_differ_by_kind_of_layer_only_where_a_window_binds() -> None:
    decoder = decoder_of(tiny("gemma3_text", "sdpa", 8))
    short = joint_layout([[7, 8]], [20, 21], [30, 31], slots=1, pad_id=0)  # 6 wide
    assert attention_masks(decoder, short.segments).shape == (1, 1, 6, 6)
    wide = joint_layout([[7, 8, 9, 10]], [20, 21], [30, 31, 32], slots=1, pad_id=0)  # 9 wide, 7 positions
    assert attention_masks(decoder, wide.segments).shape == (1, 1, 9, 9)
    long = joint_layout([[7, 8, 9, 10, 11, 12]], [20, 21], [30, 31, 32], slots=1, pad_id=0)  # 9 positions
    masks = attention_masks(decoder, long.segments)
    assert set(masks) == {"full_attention", "sliding_attention"}
    assert (masks["full_attention"] == 0).sum() == (masks["sliding_attention"] == 0).sum() + 1


def test_windows_that_the_model_never_looks_at_are_ignored() -> None:
    assert layer_windows(build("llama", sliding_window=4)) == {"full_attention": None}
    assert layer_windows(build("qwen3_moe", sliding_window=4)) == {"full_attention": None}  # switched off
    kinds = ["sliding_attention", "full_attention"]
    mistral = build("mistral", sliding_window=4, layer_types=kinds)  # takes the key, ignores it
    assert layer_windows(mistral) == {"full_attention": 4}
    assert verify_joint_pass(mistral, 24) < 1e-5


def test_lengths_are_checked() -> None:
    check_joint_support(decoder_of(tiny("llama")), 64)
    with pytest.raises(ModelError, match="64 positions"):
        check_joint_support(decoder_of(tiny("llama")), 65)
    check_joint_support(decoder_of(tiny("mistral", "sdpa", 8)), 24)  # longer than the window: supported


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        ("bloom", {"n_head": 2}, "position ids"),
        ("falcon", {"alibi": True}, "position ids"),
        ("mamba", {}, "position ids"),
        ("lfm2", {"layer_types": ["conv", "full_attention"]}, "layers of kind conv"),
        ("jamba", {"attn_layer_period": 2, "attn_layer_offset": 1}, "layers of kind linear_attention"),
        ("llama4_text", {"num_local_experts": 2}, "layers of kind chunked_attention"),
        ("gpt_neo", {"num_layers": 2, "num_heads": 4, "window_size": 8,
                     "attention_types": [[["global", "local"], 1]]}, "other slot states"),
    ],
)  # fmt: skip
def test_families_that_cannot_be_joint_are_refused(family: str, settings: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_joint_support(build(family, **settings), 24)


def test_models_that_look_ahead_are_refused() -> None:
    with pytest.raises(ModelError, match="looks ahead"):
        check_joint_support(altered(decoder_of(tiny("gemma3_text")), use_bidirectional_attention=True), 24)


def test_kernels_that_would_compute_something_else_are_refused() -> None:
    with pytest.raises(ModelError, match=r"cap their attention scores.*eager"):
        check_joint_support(
            altered(decoder_of(tiny("gemma2", "eager")), _attn_implementation_internal="sdpa"), 24
        )
    with pytest.raises(ModelError, match=r"flash_attention_2.*takes no mask of ours"):
        flash = altered(decoder_of(tiny("llama")), _attn_implementation_internal="flash_attention_2")
        check_joint_support(flash, 24)
    flex = decoder_of(tiny("llama", "flex_attention"))
    check_joint_support(flex, 24)
    with pytest.raises(ModelError, match="no backward pass on the CPU"):
        check_joint_support(flex, 24, training=True)
    with pytest.raises(ModelError, match=r"attention_dropout is 0.1"):
        check_joint_support(altered(flex, attention_dropout=0.1), 24, training=True)


class Disobedient(torch.nn.Module):
    """A decoder of unknown type that drops what a joint pass relies on."""

    def __init__(self, ignores: str) -> None:
        super().__init__()
        self.inner, self.ignores = decoder_of(tiny("llama")), ignores
        self.config = copy.deepcopy(self.inner.config)
        self.config.model_type = "disobedient"
        self.dtype, self.device = torch.float32, torch.device("cpu")

    def forward(self, input_ids, attention_mask, position_ids=None, use_cache=False):
        mask = torch.ones_like(input_ids) if self.ignores == "attention_mask" else attention_mask
        positions = None if self.ignores == "position_ids" else position_ids
        if self.ignores == "states":
            return SimpleNamespace(hidden_states=None)
        return self.inner(
            input_ids=input_ids, attention_mask=mask, position_ids=positions, use_cache=use_cache
        )


@pytest.mark.parametrize("ignores", ["attention_mask", "position_ids"])
def test_unknown_models_that_disobey_are_found_out(ignores: str) -> None:
    with pytest.raises(ModelError, match="does not follow the mask or the position ids"):
        check_joint_support(Disobedient(ignores), 24)
    check_joint_support(Disobedient("nothing"), 24)


def test_unknown_models_that_break_are_refused() -> None:
    with pytest.raises(ModelError, match=r"do not take a mask of ours.*last_hidden_state"):
        check_joint_support(Disobedient("states"), 24)


def test_trial_leaves_the_model_as_it_was() -> None:
    decoder = copy.deepcopy(decoder_of(tiny("gpt_neox"))).train()
    decoder.layers[0].eval()  # a frozen part
    before = {name: weights.clone() for name, weights in decoder.state_dict().items()}
    state = torch.get_rng_state()
    verify_joint_pass(decoder, 24)
    assert decoder.training and decoder.layers[1].training and not decoder.layers[0].training
    assert all(weights.grad is None for weights in decoder.parameters())
    assert all(torch.equal(weights, before[name]) for name, weights in decoder.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision(kernel: str, autocast: bool) -> None:
    model = copy.deepcopy(tiny("llama", kernel))
    layout = joint_layout(TEXTS, EBAE, EBAR, slots=2, pad_id=0, padding_side="left")
    apart = slots_alone(tiny("llama", kernel), TEXTS, (EBAE, EBAR), 2)
    if not autocast:
        model = model.to(torch.bfloat16)
    decoder = decoder_of(model)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        states = layout_forward(decoder, layout.input_ids, layout.segments)
    assert states.isfinite().all()
    rows = torch.arange(len(TEXTS))[:, None, None]
    error = (states[rows, layout.slots].float() - apart).norm() / apart.norm()
    assert error < 0.03  # bfloat16 keeps 8 bits
    if not autocast:
        assert verify_joint_pass(decoder, 24) < 0.05


@pytest.mark.parametrize(("family", "window"), [("llama", None), ("gemma3_text", 8)])
def test_gradients_under_checkpointing(family: str, window: int | None) -> None:
    layout = joint_layout(TEXTS, EBAE, [21, 22, 23, 24, 25, 32, 33], slots=2, pad_id=0)
    plain = tiny(family, "sdpa", window)
    recomputing = copy.deepcopy(plain).train()  # these families have no dropout
    recomputing.gradient_checkpointing_enable()
    expected, got = (
        gradient(model, joint_hidden_states(decoder_of(model), layout)) for model in (plain, recomputing)
    )
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)
