"""Padded batches and embeddings: what serving and fine-tuning share, so that both give the same vectors."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from llara_core.model.last_layer import SlotRows

Rows = list[NDArray[np.int32]]


def pad_rows(rows: Sequence[Any], pad_id: int) -> tuple[Tensor, Tensor]:
    """Rows of token ids padded on the right.

    Args:
        rows: B rows, each a list or an array of ids.
        pad_id: what fills the rest.

    Returns:
        Ids int64 [B, T] and lengths int64 [B].
    """
    lengths = np.array([len(row) for row in rows], np.int64)
    ids = np.full((len(rows), int(lengths.max())), pad_id, np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
    return torch.from_numpy(ids), torch.from_numpy(lengths)


def embed(
    decoder: Any,
    input_ids: Tensor,
    lengths: Tensor,
    slots: int,
    *,
    masked: bool = True,
    last_layer: SlotRows | None = None,
) -> Tensor:
    """Embeddings [B, D], float32 and L2-normalised: the mean of the slots' final hidden states.

    Args:
        decoder: the model without its output head.
        input_ids: int64 [B, T], padded on the right.
        lengths: int64 [B]; the last ``slots`` real positions of a row are its slots.
        slots: S.
        masked: tell the model where padding is. A decoder whose tokens look at earlier ones only never sees
            padding on the right anyway (``last_layer.sees_no_padding``), and without a mask its attention
            kernel computes half.
        last_layer: makes the last layer compute what depends on a position only at the slots.
    """
    mask = None
    if masked:
        columns = torch.arange(input_ids.shape[1], device=input_ids.device)
        mask = (columns[None, :] < lengths[:, None]).long()
    places = lengths[:, None] + torch.arange(-slots, 0, device=input_ids.device)[None, :]
    rows = torch.arange(input_ids.shape[0], device=input_ids.device)[:, None]
    if last_layer is not None:
        last_layer.places = (rows, places)
    states = decoder(input_ids=input_ids, attention_mask=mask, use_cache=False).last_hidden_state
    chosen = states[rows, places]
    chosen = chosen if chosen.dtype == torch.float64 else chosen.float()  # a float64 model keeps its own
    return functional.normalize(chosen.mean(dim=1), dim=-1)


def token_budget_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Row numbers cut into batches of at most ``batch_tokens`` padded tokens, longest rows first.

    Sorted by length, so that little is padding; longest first, so that a shortage of memory shows at once.
    A single row longer than the budget is a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    batches: list[list[int]] = []
    for row in order:
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= batch_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def in_advance(
    blocks: Iterable[Sequence[str]], work: Callable[[Sequence[str]], tuple[Rows, int]], ahead: int
) -> Iterator[tuple[Rows, int]]:
    """The work's results in order, ``ahead`` of them computed beside what is done with the current one."""
    if not ahead:
        yield from map(work, blocks)
        return
    waiting: deque[Future[tuple[Rows, int]]] = deque()
    with ThreadPoolExecutor(1) as pool:
        for block in blocks:
            waiting.append(pool.submit(work, block))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
