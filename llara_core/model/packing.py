"""Several rows one after another in a sequence: variable-length text without padding waste.

Each row keeps its text and both branches together and sees nothing of its neighbours (``attention``), so
its states are those of a sequence of its own. Worth it under ``flex_attention``, which skips the blocks
between rows; ``sdpa`` and ``eager`` compute them and mask them away.

Source: issue 3, point 4 (packing).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llara_core.errors import ConfigError
from llara_core.model.attention import EBAE, EBAR, PADDING, TEXT, layout_positions
from llara_core.model.joint_pass import layout_forward

NO_DOCUMENT = -1


@dataclass(frozen=True)
class PackedLayout:
    """B rows in N sequences of T tokens; all int64.

    Args:
        input_ids: [N, T].
        segments: [N, T]: 0 padding, 1 prefix and text, 2 EBAE branch, 3 EBAR branch.
        documents: [N, T]: number of the row within its sequence, from 0; -1 for padding.
        positions: [N, T]: position ids, from 0 in every row.
        slot_rows: [B, 2, S]: sequences that the rows' slots lie in, EBAE first, rows in the order given.
        slot_columns: [B, 2, S]: their columns there.
    """

    input_ids: Tensor
    segments: Tensor
    documents: Tensor
    positions: Tensor
    slot_rows: Tensor
    slot_columns: Tensor


def pack_rows(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Row numbers by sequence: first-fit decreasing, then evened out.

    The same number of sequences is filled with the least width that first-fit finds, so that the last one
    is not left half empty.

    Args:
        lengths: tokens of each row.
        capacity: most tokens of a sequence.

    Raises:
        ConfigError: a row is longer than a sequence may be.
    """
    longest = max(lengths, default=0)
    if longest > capacity:
        raise ConfigError(
            f"a row of {longest} tokens does not fit into a packed sequence of {capacity}; "
            "raise micro_batch_tokens, lower text_length, or switch packing off"
        )
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    best = _first_fit(lengths, order, capacity)
    low, high = max(longest, -(-sum(lengths) // max(len(best), 1))), capacity
    while low < high:
        width = (low + high) // 2
        tried = _first_fit(lengths, order, width)
        if len(tried) <= len(best):
            best, high = tried, width
        else:
            low = width + 1
    return best


def _first_fit(lengths: Sequence[int], order: Sequence[int], width: int) -> list[list[int]]:
    bins: list[list[int]] = []
    room: list[int] = []
    for row in order:
        place = next((index for index, left in enumerate(room) if left >= lengths[row]), None)
        if place is None:
            bins.append([])
            room.append(width)
            place = len(bins) - 1
        bins[place].append(row)
        room[place] -= lengths[row]
    return bins


def packed_layout(
    texts: Sequence[Sequence[int]],
    ebae_suffix: Sequence[int],
    ebar_suffix: Sequence[int],
    *,
    slots: int,
    pad_id: int,
    capacity: int,
) -> PackedLayout:
    """Lay out B texts with both prompts behind each, several in a sequence; padding on the right.

    Args:
        texts: token ids of prefix and text, row by row.
        ebae_suffix: ids of the first branch, its slots last.
        ebar_suffix: ids of the second branch, its slots last.
        slots: slots per branch, S.
        pad_id: id that fills padding.
        capacity: most tokens of a sequence.

    Raises:
        ConfigError: a row with both prompts is longer than ``capacity``.
    """
    tail = [*ebae_suffix, *ebar_suffix]
    branches = torch.tensor([EBAE] * len(ebae_suffix) + [EBAR] * len(ebar_suffix), dtype=torch.long)
    lengths = [len(text) + len(tail) for text in texts]
    bins = pack_rows(lengths, capacity)
    shape = (len(bins), max((sum(lengths[row] for row in rows) for rows in bins), default=0))
    input_ids = torch.full(shape, pad_id, dtype=torch.long)
    segments = torch.full(shape, PADDING, dtype=torch.long)
    documents = torch.full(shape, NO_DOCUMENT, dtype=torch.long)
    places = torch.empty(len(texts), 2, slots, dtype=torch.long)
    columns = torch.empty(len(texts), 2, slots, dtype=torch.long)
    for sequence, rows in enumerate(bins):
        start = 0
        for document, row in enumerate(rows):
            stop, text_end = start + lengths[row], start + len(texts[row])
            input_ids[sequence, start:stop] = torch.tensor([*texts[row], *tail], dtype=torch.long)
            segments[sequence, start:text_end] = TEXT
            segments[sequence, text_end:stop] = branches
            documents[sequence, start:stop] = document
            places[row] = sequence
            columns[row, 0] = torch.arange(-slots, 0) + text_end + len(ebae_suffix)
            columns[row, 1] = torch.arange(-slots, 0) + stop
            start = stop
    positions = layout_positions(segments, documents)
    return PackedLayout(input_ids, segments, documents, positions, places, columns)


def packed_hidden_states(decoder: Any, packed: PackedLayout) -> Tensor:
    """Final hidden states of all slots [B, 2, S, D] in the order of the rows given, EBAE first.

    Args:
        decoder: the model without its output head (``backbone.decoder_of``).
        packed: B rows.

    Raises:
        ModelError: the model has layers that no mask can keep within a row.
    """
    states = layout_forward(decoder, packed.input_ids, packed.segments, packed.documents)
    return states[packed.slot_rows, packed.slot_columns]
