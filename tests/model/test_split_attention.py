"""Skipping what no text token looks at changes no state and no gradient, in any family that uses it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from llara_core.model import split_attention
from llara_core.model.attention import TEXT, attention_masks
from llara_core.model.backbone import decoder_of
from llara_core.model.joint_pass import TESTED_FAMILIES, JointLayout, joint_forward, joint_layout
from llara_core.model.split_attention import SPLIT_SDPA, causal_columns, use_split_attention
from tests.oracles.decoder_families import NO_SDPA, WINDOW, WINDOWED, gradient, tiny

EBAE, EBAR = [20, 30, 31], [21, 22, 32, 33]
FAMILIES = sorted(TESTED_FAMILIES - NO_SDPA)
ROWS = {"equal": [12, 12, 12], "of different lengths": [12, 9, 14]}


def layout_of(lengths: list[int], side: str = "right") -> JointLayout:
    texts = [[5 + (7 * row + place) % 50 for place in range(count)] for row, count in enumerate(lengths)]
    return joint_layout(texts, EBAE, EBAR, slots=2, pad_id=0, padding_side=side)


@pytest.fixture(autouse=True)
def _split_short_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_attention, "SHORTEST", 4)


def split(model: nn.Module) -> nn.Module:
    """A copy of the model that splits."""
    other = copy.deepcopy(model)
    use_split_attention(decoder_of(other), "cpu")
    assert decoder_of(other).config._attn_implementation == SPLIT_SDPA
    return other


def test_columns_that_are_text_in_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def columns(*args) -> int:
        return causal_columns(layout_of(*args).segments == TEXT)

    assert columns([12, 12]) == 12
    assert columns([12, 9]) == 9
    assert columns([12, 12], "left") == 12
    assert columns([12, 9], "left") == 0
    monkeypatch.setattr(split_attention, "SHORTEST", 10)
    assert columns([12, 9]) == 0
    assert causal_columns(torch.ones(2, 20, dtype=torch.bool)) == 0  # nothing is left to mask


def test_mask_is_the_last_rows_of_the_whole_one() -> None:
    plain = tiny("llama")
    segments = layout_of([12, 9, 14]).segments
    whole = attention_masks(decoder_of(plain), segments)
    last = attention_masks(decoder_of(split(plain)), segments)
    assert last.shape == (3, 1, segments.shape[1] - 9, segments.shape[1])
    assert torch.equal(last, whole[:, :, 9:])
    causal = torch.ones(9, segments.shape[1], dtype=torch.bool).tril()
    assert torch.equal(whole[:, 0, :9] == 0, causal.expand(3, -1, -1))


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("family", FAMILIES)
def test_states_and_gradients_are_those_of_sdpa(family: str, rows: str) -> None:
    plain, layout, tolerance = tiny(family), layout_of(ROWS[rows]), 1e-5
    if family != "mixtral":  # its experts are multiplied in float32 alone
        plain, tolerance = copy.deepcopy(plain).double(), 1e-9
    other = split(plain)
    expected, found = (joint_forward(decoder_of(model), layout) for model in (plain, other))
    real = layout.segments > 0
    torch.testing.assert_close(found[real], expected[real], atol=tolerance, rtol=0)
    assert expected[real].abs().max() > 0.1
    got, wanted = gradient(other, found[real]), gradient(plain, expected[real])
    torch.testing.assert_close(got, wanted, atol=tolerance, rtol=0)


def test_rows_beyond_a_window_get_the_whole_mask() -> None:
    for family in sorted(set(WINDOWED) & set(FAMILIES)):
        plain, layout = tiny(family, window=WINDOW), layout_of([12, 12])
        other = split(plain)
        expected, found = (joint_forward(decoder_of(model), layout) for model in (plain, other))
        torch.testing.assert_close(found, expected, atol=0, rtol=0)


@pytest.mark.parametrize("mask", ["padded", "none"])
def test_other_passes_are_those_of_sdpa(mask: str) -> None:
    ids = torch.arange(5, 25).view(2, 10)
    given = torch.tensor([[1] * 10, [1] * 6 + [0] * 4]) if mask == "padded" else None
    plain = tiny("qwen2")
    expected, found = (
        decoder_of(model)(input_ids=ids, attention_mask=given, use_cache=False).last_hidden_state
        for model in (plain, split(plain))
    )
    assert torch.equal(found, expected)


def test_recomputed_layers_split_again() -> None:
    plain, layout = tiny("llama"), layout_of([12, 9])
    other = split(plain)
    other.gradient_checkpointing_enable()
    other.train()
    got, wanted = (gradient(model, joint_forward(decoder_of(model), layout)) for model in (other, plain))
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


def test_it_is_no_part_of_what_is_saved(tmp_path: Path) -> None:
    other = split(tiny("llama"))
    other.save_pretrained(tmp_path)
    assert SPLIT_SDPA not in (tmp_path / "config.json").read_text()
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(("kernel", "device"), [("eager", "cpu"), ("sdpa", "cuda"), ("sdpa", "meta")])
def test_other_kernels_and_devices_stay(kernel: str, device: str) -> None:
    decoder = decoder_of(copy.deepcopy(tiny("llama", kernel)))
    use_split_attention(decoder, device)
    assert decoder.config._attn_implementation == kernel
