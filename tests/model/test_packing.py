"""Rows that share sequences have the states of rows of their own."""

from __future__ import annotations

import pytest
import torch

from llara_core.errors import ConfigError
from llara_core.model.attention import allowed_pairs
from llara_core.model.backbone import decoder_of
from llara_core.model.joint_pass import joint_hidden_states, joint_layout
from llara_core.model.packing import pack_rows, packed_hidden_states, packed_layout
from tests.oracles.decoder_families import NO_SDPA, WINDOW, gradient, tiny

TEXTS = [[5, 6, 7, 8, 9, 40, 41, 42], [5], [10, 11, 12], [13, 14, 15, 16, 17], [18, 19]]
EBAE, EBAR = [20, 30, 31], [21, 22, 32, 33]
FAMILIES = [
    ("llama", None), ("qwen3", None), ("gpt_neox", None), ("gpt2", None), ("smollm3", None),
    ("mistral", WINDOW), ("gemma2", WINDOW), ("gemma3_text", WINDOW), ("phi3", WINDOW),
]  # fmt: skip


def packed(capacity: int = 30):
    return packed_layout(TEXTS, EBAE, EBAR, slots=2, pad_id=0, capacity=capacity)


def test_layout_by_hand() -> None:
    layout = packed_layout([[7, 8], [9]], [20], [30], slots=1, pad_id=0, capacity=8)
    assert layout.input_ids.tolist() == [[7, 8, 20, 30, 9, 20, 30]]
    assert layout.segments.tolist() == [[1, 1, 2, 3, 1, 2, 3]]
    assert layout.documents.tolist() == [[0, 0, 0, 0, 1, 1, 1]]
    assert layout.positions.tolist() == [[0, 1, 2, 2, 0, 1, 1]]
    assert layout.slot_rows.tolist() == [[[0], [0]], [[0], [0]]]
    assert layout.slot_columns.tolist() == [[[2], [3]], [[5], [6]]]
    looks = allowed_pairs(layout.segments, layout.documents).long()[0].tolist()
    assert looks[3] == [1, 1, 0, 1, 0, 0, 0]  # second branch: text and itself
    assert looks[6] == [0, 0, 0, 0, 1, 0, 1]  # of the second row, nothing of the first
    assert looks[4] == [0, 0, 0, 0, 1, 0, 0]


def test_padding_looks_at_itself_alone() -> None:
    layout = packed_layout([[7, 8], [9]], [20], [30], slots=1, pad_id=0, capacity=4)
    assert layout.input_ids.tolist() == [[7, 8, 20, 30], [9, 20, 30, 0]]
    assert layout.documents.tolist() == [[0, 0, 0, 0], [0, 0, 0, -1]]
    assert layout.positions.tolist() == [[0, 1, 2, 2], [0, 1, 1, 0]]
    assert allowed_pairs(layout.segments, layout.documents).long()[1, 3].tolist() == [0, 0, 0, 1]


def test_rows_fit_and_none_is_lost() -> None:
    generator = torch.Generator().manual_seed(0)
    for capacity in (64, 100, 1000):
        lengths = torch.randint(1, 65, (50,), generator=generator).tolist()
        bins = pack_rows(lengths, capacity)
        assert sorted(row for rows in bins for row in rows) == list(range(50))
        assert all(sum(lengths[row] for row in rows) <= capacity for rows in bins)
    assert pack_rows([], 10) == []


def test_sequences_are_evened_out() -> None:
    # First-fit alone fills 10 and 2; the same two sequences need a width of only 6.
    bins = pack_rows([2] * 6, 10)
    assert [len(rows) for rows in bins] == [3, 3]


def test_a_row_too_long_is_refused() -> None:
    with pytest.raises(ConfigError, match="15 tokens does not fit into a packed sequence of 14"):
        packed(14)


@pytest.mark.parametrize("capacity", [15, 30, 200])
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize(("family", "window"), FAMILIES)
def test_packed_equals_unpacked(family: str, window: int | None, kernel: str, capacity: int) -> None:
    if kernel == "sdpa" and family in NO_SDPA:
        kernel = "eager"
    model = tiny(family, kernel, window)
    decoder = decoder_of(model)
    states = packed_hidden_states(decoder, packed(capacity))
    apart = joint_hidden_states(decoder, joint_layout(TEXTS, EBAE, EBAR, slots=2, pad_id=0))
    torch.testing.assert_close(states, apart, atol=1e-5, rtol=0)
    torch.testing.assert_close(gradient(model, states), gradient(model, apart), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("capacity", [15, 30, 200])
@pytest.mark.parametrize(("family", "window"), [case for case in FAMILIES if case[0] != "gpt2"])
def test_packed_under_flex_attention(family: str, window: int | None, capacity: int) -> None:
    layout = joint_layout(TEXTS, EBAE, EBAR, slots=2, pad_id=0)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        states = packed_hidden_states(decoder_of(tiny(family, "flex_attention", window)), packed(capacity))
        apart = joint_hidden_states(decoder_of(tiny(family, "eager", window)), layout)
    torch.testing.assert_close(states, apart, atol=1e-5, rtol=0)


def test_order_of_rows_is_kept() -> None:
    decoder = decoder_of(tiny("llama"))
    whole = packed_hidden_states(decoder, packed())
    for row, text in enumerate(TEXTS):
        single = packed_layout([text], EBAE, EBAR, slots=2, pad_id=0, capacity=30)
        torch.testing.assert_close(packed_hidden_states(decoder, single)[0], whole[row], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("rows", "capacity"), [(16, 2048), (64, 2048), (256, 4096)])
def test_waste_is_under_five_percent(rows: int, capacity: int) -> None:
    # Lengths as of real passages: log-normal around 130 tokens, cut at 512.
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        lengths = (0.6 * torch.randn(rows, generator=generator) + 4.9).exp().clamp(16, 512).long().tolist()
        layout = packed_layout(
            [[5] * length for length in lengths], [6] * 20, [7] * 20, slots=8, pad_id=0, capacity=capacity
        )
        assert layout.input_ids.shape[1] <= capacity
        real = int((layout.segments != 0).sum())
        assert real == sum(lengths) + 40 * rows
        assert 1 - real / layout.segments.numel() < 0.05
