"""InfoNCE over the passages of a batch, with false negatives masked.

Source: LLaRA (arXiv 2312.15503), section 3.4; masking and symmetric loss: issue 3, point 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from llara_core.config import FinetuneSettings
from llara_core.model.backbone import decoder_of
from llara_core.model.encoding import embed

# Fewest rows of a forward pass: below this a CPU spends its time on calls, not on numbers.
SMALLEST_CHUNK = 16
# A chunk ends where rows become shorter than this share of its longest.
LENGTH_SHARE = 0.8


def info_nce(
    queries: Tensor, passages: Tensor, targets: Tensor, masked: Tensor, temperature: float
) -> Tensor:
    """Mean negative log-likelihood of each query's own passage among the batch's, nats.

    Args:
        queries: float32 [Q, D], L2-normalised.
        passages: float32 [P, D], L2-normalised, no two of the same text.
        targets: int64 [Q], the column of each query's positive.
        masked: bool [Q, P], true where a passage is no negative of a query (another positive of it).
        temperature: divides the cosine.
    """
    scores = queries @ passages.T / temperature
    scores = scores.masked_fill(masked, torch.finfo(scores.dtype).min)
    return functional.cross_entropy(scores, targets)


def passage_to_query(
    queries: Tensor, passages: Tensor, targets: Tensor, masked: Tensor, temperature: float
) -> Tensor:
    """The other direction: each positive passage must find its query among the batch's, nats.

    A query for which the passage is a positive as well is left out of its negatives.

    Args:
        queries: float32 [Q, D].
        passages: float32 [P, D].
        targets: int64 [Q].
        masked: bool [Q, P], as in ``info_nce``.
        temperature: divides the cosine.
    """
    scores = passages[targets] @ queries.T / temperature
    same = targets[:, None] == targets[None, :]
    hidden = (masked.T[targets] | same) & ~torch.eye(len(targets), dtype=torch.bool, device=scores.device)
    scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
    return functional.cross_entropy(scores, torch.arange(len(targets), device=scores.device))


def length_chunks(lengths: Tensor) -> list[tuple[int, int]]:
    """Ranges (start, end) of rows sorted by falling length that are encoded together.

    A chunk ends where padding would waste more than another call costs.

    Args:
        lengths: int64 [B], falling.
    """
    values = lengths.tolist()
    chunks: list[tuple[int, int]] = []
    start = 0
    for row, length in enumerate(values):
        if row - start >= SMALLEST_CHUNK and length < LENGTH_SHARE * values[start]:
            chunks.append((start, row))
            start = row
    if start < len(values):
        chunks.append((start, len(values)))
    return chunks


class ContrastiveObjective(nn.Module):
    """One contrastive step as a module: a batch in, the loss and its parts out.

    Args:
        model: causal language model, perhaps with adapters.
        settings: temperature and direction.
        slots: slots per prompt, S.
    """

    def __init__(self, model: Any, settings: FinetuneSettings, slots: int) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.slots = slots

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``loss`` and its parts in nats, and ``accuracy``: the share of queries that rank their own first.

        1. Encode queries and passages, each in length-sorted chunks.
        2. Score every query against every passage of the batch.
        3. Hide false negatives; charge each query for its own passage.

        Args:
            batch: ``query_ids`` [Q, T], ``query_lengths`` [Q], ``passage_ids`` [P, T'],
                ``passage_lengths`` [P] (both sorted by falling length), ``targets`` [Q], ``masked`` [Q, P].
        """
        queries = self.encode(batch["query_ids"], batch["query_lengths"])
        passages = self.encode(batch["passage_ids"], batch["passage_lengths"])
        pieces = (queries, passages, batch["targets"], batch["masked"], self.settings.temperature)
        forward = info_nce(*pieces)
        with torch.no_grad():
            scores = (queries @ passages.T).masked_fill(batch["masked"], -2.0)
            accuracy = (scores.argmax(dim=1) == batch["targets"]).float().mean()
        if not self.settings.symmetric:
            return {"loss": forward, "accuracy": accuracy}
        backward = passage_to_query(*pieces)
        terms = {"query_to_passage": forward, "passage_to_query": backward, "accuracy": accuracy}
        return {"loss": (forward + backward) / 2, **terms}

    def encode(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """Embeddings [B, D] of rows sorted by falling length, chunk by chunk."""
        decoder = decoder_of(self.model)
        parts = [
            embed(decoder, input_ids[start:end, : int(lengths[start])], lengths[start:end], self.slots)
            for start, end in length_chunks(lengths)
        ]
        return torch.cat(parts)
