"""Rows sorted by length → the sub-batches that are encoded together."""

from __future__ import annotations

from torch import Tensor

from llara_core.config import FinetuneSettings

# Fewest rows of a forward pass: below this a CPU spends its time on calls, not on numbers.
SMALLEST_CHUNK = 16
# A chunk ends where rows become shorter than this share of its longest.
LENGTH_SHARE = 0.8
# With gradient caching a sub-batch is all that memory holds: enough to keep a device busy, and no more.
CACHED_TOKENS = 4096


def sub_batch_tokens(settings: FinetuneSettings) -> int | None:
    """Most padded tokens of a sub-batch; None: no bound."""
    if settings.micro_batch_tokens is None and settings.gradient_cache:
        return CACHED_TOKENS
    return settings.micro_batch_tokens


def length_chunks(lengths: Tensor, most_tokens: int | None = None) -> list[tuple[int, int]]:
    """Ranges (start, end) of rows sorted by falling length that are encoded together.

    A chunk ends where padding would waste more than another call costs, or at ``most_tokens``.

    Args:
        lengths: int64 [B], falling.
        most_tokens: most padded tokens of a chunk (a longer row is a chunk of its own); None: no bound.
    """
    values = lengths.tolist()
    chunks: list[tuple[int, int]] = []
    start = 0
    for row, length in enumerate(values):
        wasteful = row - start >= SMALLEST_CHUNK and length < LENGTH_SHARE * values[start]
        full = most_tokens is not None and (row - start + 1) * values[start] > most_tokens
        if row > start and (wasteful or full):
            chunks.append((start, row))
            start = row
    if start < len(values):
        chunks.append((start, len(values)))
    return chunks


def computed_positions(lengths: Tensor, most_tokens: int | None = None) -> int:
    """Positions that the chunks of ``length_chunks`` compute, padding included."""
    return sum((end - start) * int(lengths[start]) for start, end in length_chunks(lengths, most_tokens))
