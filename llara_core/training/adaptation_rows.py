"""Rows (text, next text) → the batches of every adaptation step, planned up front from one seed.

A batch depends on the seed and its number alone, never on what ran before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from llara_core.config import AdaptSettings
from llara_core.errors import TrainingError
from llara_core.model.joint_pass import joint_layout
from llara_core.model.prompts import PromptEncoder

# Batches that are sorted by length together: enough to leave little padding, few enough to stay random.
BUCKET_BATCHES = 16

Ids = np.ndarray  # int32 or int64 [K], token ids


@dataclass(frozen=True)
class TokenRows:
    """Token ids of N texts in one array.

    Args:
        ids: int32 [sum of lengths].
        offsets: int64 [N + 1]; row i is ``ids[offsets[i]:offsets[i + 1]]``.
    """

    ids: np.ndarray
    offsets: np.ndarray

    @classmethod
    def pack(cls, rows: Sequence[Sequence[int]]) -> TokenRows:
        """Pack lists of ids."""
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        ids = np.fromiter((index for row in rows for index in row), dtype=np.int32, count=int(offsets[-1]))
        return cls(ids, offsets)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int64 [N]."""
        return np.diff(self.offsets)

    def row(self, index: int) -> np.ndarray:
        """Ids of one row."""
        ids: np.ndarray = self.ids[self.offsets[index] : self.offsets[index + 1]]
        return ids

    def __len__(self) -> int:
        """Number of rows, N."""
        return len(self.offsets) - 1


def log_unigram(rows: TokenRows, vocabulary: int, *, once_per_row: bool) -> Tensor:
    """Log relative frequency of every token, float32 [V], with one added to each count.

    Args:
        rows: the corpus.
        vocabulary: V.
        once_per_row: count rows that hold the token (what ``unique`` targets follow), not occurrences.
    """
    found = (
        document_frequency(rows, vocabulary) if once_per_row else np.bincount(rows.ids, minlength=vocabulary)
    )
    counts = found.astype(np.float64) + 1.0
    return torch.tensor(np.log(counts / counts.sum()), dtype=torch.float32)


def inverse_document_frequency(rows: TokenRows, vocabulary: int) -> np.ndarray:
    """IDF of every token over the rows, float32 [V]: log((N + 1) / (n + 1)), never negative."""
    weights: np.ndarray = np.log((len(rows) + 1) / (document_frequency(rows, vocabulary) + 1))
    return weights.astype(np.float32)


def document_frequency(rows: TokenRows, vocabulary: int) -> np.ndarray:
    """Rows that hold each token, int64 [V]."""
    numbers = np.repeat(np.arange(len(rows), dtype=np.int64), rows.lengths)
    distinct = np.unique(numbers * vocabulary + rows.ids)
    counts: np.ndarray = np.bincount(distinct % vocabulary, minlength=vocabulary)
    return counts


@dataclass(frozen=True)
class TargetRule:
    """Which tokens are targets and what they weigh.

    Args:
        excluded: bool [V], true for special tokens.
        all_occurrences: a token counts as often as it occurs, instead of once.
        token_weights: float32 [V], e.g. IDF; None: all the same.
    """

    excluded: np.ndarray
    all_occurrences: bool = False
    token_weights: np.ndarray | None = None

    def targets(self, rows: Sequence[Ids]) -> tuple[Tensor, Tensor, Tensor]:
        """Row numbers int64 [K], token ids int64 [K] and weights float32 [K] of B target texts.

        The weights of a row sum to 1; a row without (weighty) targets has no entries.
        """
        vocabulary = len(self.excluded)
        numbers = np.repeat(np.arange(len(rows), dtype=np.int64), [len(row) for row in rows])
        flat = np.concatenate([*rows, np.zeros(0, dtype=np.int64)]).astype(np.int64)
        kept = ~self.excluded[flat]
        # One sort finds each row's distinct tokens and their counts.
        keys, counts = np.unique(numbers[kept] * vocabulary + flat[kept], return_counts=True)
        owner, ids = keys // vocabulary, keys % vocabulary
        weights = counts.astype(np.float64) if self.all_occurrences else np.ones(len(keys))
        if self.token_weights is not None:
            weights = weights * self.token_weights[ids]
        totals = np.bincount(owner, weights=weights, minlength=len(rows))
        heavy = totals[owner] > 0
        owner, ids, weights = owner[heavy], ids[heavy], weights[heavy] / totals[owner[heavy]]
        return torch.from_numpy(owner), torch.from_numpy(ids), torch.from_numpy(weights.astype(np.float32))


class AdaptationBatches(Dataset[dict[str, Tensor]]):
    """All batches of an adaptation; item k is the batch of step k.

    Args:
        texts: N texts as token ids.
        next_texts: N texts that follow them.
        encoder: gives prefix, suffixes and padding.
        rule: what the targets are.
        settings: steps, batch size, lengths and spans.
        seed: of order and spans.

    Raises:
        TrainingError: no row has any token.
    """

    def __init__(
        self,
        texts: TokenRows,
        next_texts: TokenRows,
        encoder: PromptEncoder,
        rule: TargetRule,
        settings: AdaptSettings,
        seed: int,
    ) -> None:
        self.texts, self.next_texts = texts, next_texts
        self.encoder, self.rule, self.settings = encoder, rule, settings
        usable = np.flatnonzero(texts.lengths > 0)
        if not len(usable):
            raise TrainingError("adapt: there is no text to adapt on; every row is empty")
        self.plan = self._plan(usable, seed)

    def _plan(self, usable: np.ndarray, seed: int) -> list[np.ndarray]:
        """For each step an int64 array [B, 3] of row, start and length of its span."""
        plan: list[np.ndarray] = []
        size = min(self.settings.batch_size, len(usable))
        epoch = 0
        while len(plan) < self.settings.steps:
            random = np.random.default_rng([seed, epoch])
            spans = self._spans(random.permutation(usable), random)
            batches: list[np.ndarray] = []
            for start in range(0, len(spans) - size + 1, size * BUCKET_BATCHES):
                bucket = spans[start : start + size * BUCKET_BATCHES]
                bucket = bucket[np.argsort(bucket[:, 2], kind="stable")]
                batches += [bucket[at : at + size] for at in range(0, len(bucket) - size + 1, size)]
            plan += [batches[index] for index in random.permutation(len(batches))]
            epoch += 1
        return plan[: self.settings.steps]

    def _spans(self, rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
        lengths = self.texts.lengths[rows]
        longest = np.minimum(lengths, self.settings.text_length)
        if self.settings.minimum_span is None:
            return np.stack([rows, np.zeros_like(rows), longest], axis=1)
        shortest = np.minimum(longest, self.settings.minimum_span)
        span = shortest + np.floor(random.random(len(rows)) * (longest - shortest + 1)).astype(np.int64)
        start = np.floor(random.random(len(rows)) * (lengths - span + 1)).astype(np.int64)
        return np.stack([rows, start, span], axis=1)

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.plan)

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """The batch of a step, as ``AdaptationObjective.forward`` takes it."""
        spans = [self._texts_of(*row) for row in self.plan[step].tolist()]
        encoder = self.encoder
        layout = joint_layout(
            [[*encoder.prefix_ids, *text.tolist()] for text, _ in spans],
            encoder.ebae_suffix_ids,
            encoder.ebar_suffix_ids,
            slots=encoder.template.slots_per_prompt,
            pad_id=encoder.pad_id,
        )
        batch = {"input_ids": layout.input_ids, "segments": layout.segments, "slots": layout.slots}
        batch["counts"] = torch.tensor([int((layout.segments > 0).sum()), layout.segments.numel()])
        for name, targets in (("ebae", [text for text, _ in spans]), ("ebar", [after for _, after in spans])):
            rows, ids, weights = self.rule.targets(targets)
            batch |= {f"{name}_rows": rows, f"{name}_ids": ids, f"{name}_weights": weights}
        return batch

    def _texts_of(self, row: int, start: int, length: int) -> tuple[Ids, Ids]:
        """The span itself, and what EBAR foretells: what follows it, or what stands around it."""
        text, following = self.texts.row(row), self.next_texts.row(row)
        if self.settings.minimum_span is None:
            return text[:length], following[: self.settings.text_length]
        if self.settings.ebar_target == "around" and length < len(text):
            # A query is a short piece of what it looks for: the span must recall the rest of its passage.
            reach = self.settings.text_length
            return text[start : start + length], text[max(0, start - reach) : start + length + reach]
        after = np.concatenate([text[start + length : start + 2 * length], following[:length]])
        return text[start : start + length], after[:length]
