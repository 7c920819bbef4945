"""Slots come out the same without a mask over padding, and when the last layer computes only them."""

from __future__ import annotations

import pytest
import torch

from llara_core.model.backbone import decoder_of
from llara_core.model.encoding import embed, pad_rows
from llara_core.model.last_layer import SEES_NO_PADDING, SLOTS_SUFFICE, sees_no_padding, slots_only
from tests.oracles.decoder_families import FAMILIES, WINDOW, WINDOWED, kernels_of, tiny

SLOTS = 2
CASES = [
    (family, kernel, window)
    for family in sorted(SEES_NO_PADDING)
    for kernel in kernels_of(family)
    for window in ([None, WINDOW] if family in WINDOWED else [None])
]


def rows() -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(3, 64, (length,), generator=generator).tolist() for length in (30, 17, 9, 5, 2)]


@pytest.mark.parametrize(("family", "kernel", "window"), CASES)
def test_neither_the_mask_nor_the_other_positions_are_needed(
    family: str, kernel: str, window: int | None
) -> None:
    decoder = decoder_of(tiny(family, kernel, window))
    ids, lengths = pad_rows(rows(), 0)
    assert sees_no_padding(decoder)
    with torch.no_grad():
        masked = embed(decoder, ids, lengths, SLOTS)
        bare = embed(decoder, ids, lengths, SLOTS, masked=False)
        with slots_only(decoder) as last_layer:
            assert (last_layer is not None) == (family in SLOTS_SUFFICE)
            lean = embed(decoder, ids, lengths, SLOTS, masked=False, last_layer=last_layer)
        other_pads = embed(decoder, *pad_rows(rows(), 5), SLOTS, masked=False)
    for vectors in (bare, lean, other_pads):
        torch.testing.assert_close(vectors, masked, atol=1e-6, rtol=0)
    with torch.no_grad():  # the hooks are gone
        after = decoder(input_ids=ids, use_cache=False).last_hidden_state
        assert torch.equal(after, decoder(input_ids=ids, use_cache=False).last_hidden_state)


def test_every_family_claimed_is_tested() -> None:
    assert set(FAMILIES) >= SEES_NO_PADDING >= SLOTS_SUFFICE


def test_the_last_layer_really_computes_the_slots_only() -> None:
    decoder = decoder_of(tiny("llama"))
    ids, lengths = pad_rows(rows(), 0)
    seen: list[tuple[int, ...]] = []
    handles = [
        layer.mlp.down_proj.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape)))
        for layer in decoder.layers
    ]
    try:
        with torch.no_grad(), slots_only(decoder) as last_layer:
            embed(decoder, ids, lengths, SLOTS, last_layer=last_layer)
    finally:
        for handle in handles:
            handle.remove()
    assert [shape[:2] for shape in seen] == [(5, 30), (5, SLOTS)]


def test_wrong_places_would_show() -> None:
    decoder = decoder_of(tiny("llama"))
    ids, lengths = pad_rows(rows(), 0)
    with torch.no_grad():
        right = embed(decoder, ids, lengths, SLOTS)
        with slots_only(decoder) as last_layer:
            assert last_layer is not None
            columns = torch.zeros(5, SLOTS, dtype=torch.long) + torch.arange(SLOTS)
            last_layer.places = (torch.arange(5)[:, None], columns)
            states = decoder(input_ids=ids, use_cache=False).last_hidden_state
    places = lengths[:, None] + torch.arange(-SLOTS, 0)
    wrong = torch.nn.functional.normalize(states[torch.arange(5)[:, None], places].mean(1), dim=-1)
    assert (wrong[:4] - right[:4]).abs().max() > 1e-2


def test_other_models_keep_their_mask() -> None:
    for family in ("gpt2", "falcon", "gpt_oss"):
        decoder = decoder_of(tiny(family, kernels_of(family)[-1]))
        assert not sees_no_padding(decoder)
        with slots_only(decoder) as last_layer:
            assert last_layer is None
    looking_ahead = decoder_of(tiny("gemma3_text"))
    try:
        looking_ahead.config.use_bidirectional_attention = True
        assert not sees_no_padding(looking_ahead)
    finally:
        looking_ahead.config.use_bidirectional_attention = False
