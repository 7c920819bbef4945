"""The adaptation step as the released research code computes it, written anew and plainly.

One joint pass over left-padded rows with a 4-D mask, logits of EVERY position in float32, the
language-model term with labels -100 outside the text, and for each branch the log-softmax over the
maximum of its slots' logits, gathered at each row's unique target tokens. Nothing of ours is used.

Source: FlagOpen/FlagEmbedding, research/LLARA/pretrain (its ``modeling.py`` and ``data.py``), read, not
copied; its token ids and special ids, which are LLaMA-2's, are arguments here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

IGNORED = -100


@dataclass(frozen=True)
class PublishedPrompts:
    """The ids around a text: what stands before it, and the two suffixes, each with its slots last."""

    prefix: Sequence[int]
    ebae_suffix: Sequence[int]
    ebar_suffix: Sequence[int]
    slots: int
    pad_id: int
    special_ids: frozenset[int]


def published_batch(
    texts: Sequence[Sequence[int]],
    ebae_targets: Sequence[Sequence[int]],
    ebar_targets: Sequence[Sequence[int]],
    prompts: PublishedPrompts,
) -> dict[str, Tensor]:
    """Padded tensors of one batch: ``input_ids``, ``attention_mask``, ``labels`` [B, T] and target ids."""
    rows, labels = [], []
    for text in texts:
        tail = [*prompts.ebae_suffix, *prompts.ebar_suffix]
        rows.append([*prompts.prefix, *text, *tail])
        labels.append([IGNORED] * len(prompts.prefix) + list(text) + [IGNORED] * len(tail))
    ids, mask = _padded(rows, prompts.pad_id)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": _padded(labels, IGNORED)[0],
        "ebae_ids": _padded(ebae_targets, prompts.pad_id)[0],
        "ebar_ids": _padded(ebar_targets, prompts.pad_id)[0],
    }


def _padded(rows: Sequence[Sequence[int]], filler: int) -> tuple[Tensor, Tensor]:
    width = max(1, *(len(row) for row in rows))
    ids = torch.full((len(rows), width), filler, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for number, row in enumerate(rows):
        if row:
            ids[number, -len(row) :] = torch.tensor(list(row))
            mask[number, -len(row) :] = 1
    return ids, mask


def published_loss(model: Any, batch: dict[str, Tensor], prompts: PublishedPrompts) -> Tensor:
    """The loss of one batch; calling ``backward`` on it is the published step."""
    ebae, ebar = len(prompts.ebae_suffix), len(prompts.ebar_suffix)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    width, dtype = ids.shape[1], model.dtype
    # Positions count columns, padding included; the second branch takes those of the first from its start.
    positions = torch.arange(width, device=ids.device)
    positions[-ebar:] = positions[-ebae - ebar : -ebae - ebar + ebar].clone()
    lowest = torch.finfo(dtype).min
    causal = torch.full((width, width), lowest, dtype=dtype, device=ids.device).triu(1)
    attention = causal[None, None].expand(len(ids), 1, width, width).clone()
    attention = attention.masked_fill(mask[:, None, None, :] == 0, lowest)
    attention[:, :, -ebar:, -ebar - ebae : -ebar] = lowest
    states = model.get_decoder()(
        input_ids=ids, attention_mask=attention, position_ids=positions[None], use_cache=False
    ).last_hidden_state
    logits = model.get_output_embeddings()(states).float()

    shifted, labels = logits[:, :-1].contiguous(), batch["labels"][:, 1:].contiguous()
    total = functional.cross_entropy(
        shifted.view(-1, shifted.shape[-1]), labels.view(-1), ignore_index=IGNORED
    )
    terms = [
        _bag_of_words(logits[:, -ebar - prompts.slots : -ebar], batch["ebae_ids"], prompts.special_ids),
        _bag_of_words(logits[:, -prompts.slots :], batch["ebar_ids"], prompts.special_ids),
    ]
    present = [term for term in terms if term is not None]
    return total + sum(present) / len(present) if present else total


def _bag_of_words(logits: Tensor, targets: Tensor, special_ids: frozenset[int]) -> Tensor | None:
    best = logits.max(dim=1).values
    likelihood = torch.log_softmax(best, dim=1)
    losses = []
    for row, ids in zip(likelihood, targets, strict=True):
        useful = [index for index in torch.unique(ids).tolist() if index not in special_ids]
        if useful:
            losses.append(-row[torch.tensor(useful, device=row.device)].mean())
    return sum(losses) / len(losses) / 10 if losses else None
