"""Rows (text, next text) → the micro-batches of every adaptation step, planned up front from one seed.

A step depends on the seed and its number alone, never on what ran before it, nor on how many processes
share it or how its rows are cut into micro-batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llara_core.config import AdaptSettings
from llara_core.errors import TrainingError
from llara_core.model.joint_pass import joint_layout
from llara_core.model.packing import pack_rows, packed_layout
from llara_core.model.prompts import PromptEncoder
from llara_core.training.adaptation_targets import Ids, TargetRule, TokenRows
from llara_core.training.micro_batches import CutRule, cut, cut_rule, share_of

# Batches that are sorted by length together: enough to leave little padding, few enough to stay random.
BUCKET_BATCHES = 16


_NO_TEXT: Ids = np.zeros(0, dtype=np.int32)


class Piece(NamedTuple):
    """What one row of a step is made of, as token ids.

    Args:
        text: what the model reads.
        own: whose words EBAE's slots must name.
        after: whose words EBAR's slots must name.
    """

    text: Ids
    own: Ids
    after: Ids


class AdaptationBatches:
    """All steps of an adaptation, as parts of micro-batches (``llara_core.training.sharding.StepBatches``).

    Args:
        texts: N texts as token ids.
        next_texts: N texts that follow them.
        encoder: gives prefix, suffixes and padding.
        rule: what the targets are.
        settings: steps, batch size, lengths and spans.
        seed: of order and spans.
        cutting: how a share is cut into micro-batches; None: as is fastest on a CPU, within
            ``settings.micro_batch_tokens``.

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
        cutting: CutRule | None = None,
    ) -> None:
        self.texts, self.next_texts = texts, next_texts
        self.encoder, self.rule, self.settings = encoder, rule, settings
        self.cutting = cutting or cut_rule("cpu", settings.micro_batch_tokens)
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

    def part(self, step: int, rank: int = 0, world: int = 1) -> list[dict[str, Tensor]]:
        """The micro-batches of one process's share of a step, as ``AdaptationObjective.forward`` takes them.

        Each carries the normalisers of the whole step: ``ebae_total`` and ``ebar_total`` (rows that have
        targets) and ``language_model_total`` (predicted tokens), int64 scalars; and ``counts``, int64 [2]:
        real tokens and computed positions, and ``row_ids``, int64 [B]: numbers of its rows in the corpus.

        Args:
            step: number of the step, from 0.
            rank: of the process.
            world: number of processes.
        """
        spans = self.plan[step]
        pieces = [self._texts_of(*row) for row in spans.tolist()]
        totals = self._totals(pieces)
        mine = share_of(spans[:, 2], rank, world)
        batches = [
            self._collate([pieces[row] for row in rows])
            | {"row_ids": torch.from_numpy(spans[rows, 0])}
            | totals
            for rows in self._cut(mine, spans[mine, 2] + self._prompt)
        ]
        # A process without a row still takes part in the step: the bare prompts, charged for nothing.
        nobody = {"row_ids": torch.zeros(0, dtype=torch.long)}
        return batches or [self._collate([Piece(_NO_TEXT, _NO_TEXT, _NO_TEXT)]) | nobody | totals]

    def _cut(self, rows: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
        """Rows, longest first, as micro-batches: of near-equal lengths, or filling one sequence each."""
        if not self.settings.packing:
            return [rows[piece] for piece in cut(lengths, self.cutting)]
        capacity = max(self.cutting.most, int(lengths.max(initial=0)))
        return [rows[members] for members in pack_rows(lengths.tolist(), capacity)]

    @property
    def _prompt(self) -> int:
        """Tokens around a text."""
        encoder = self.encoder
        return len(encoder.prefix_ids) + len(encoder.ebae_suffix_ids) + len(encoder.ebar_suffix_ids)

    def _totals(self, pieces: Sequence[Piece]) -> dict[str, Tensor]:
        # The first token of a row has nothing before it to be predicted from.
        unseen = 0 if self.encoder.prefix_ids else 1
        counts = {
            "ebae_total": self.rule.count(piece.own for piece in pieces),
            "ebar_total": self.rule.count(piece.after for piece in pieces),
            "language_model_total": sum(max(len(piece.text) - unseen, 0) for piece in pieces),
        }
        return {name: torch.tensor(count) for name, count in counts.items()}

    def _collate(self, pieces: Sequence[Piece]) -> dict[str, Tensor]:
        """One micro-batch."""
        encoder = self.encoder
        texts = [[*encoder.prefix_ids, *text.tolist()] for text, _, _ in pieces]
        suffixes = (encoder.ebae_suffix_ids, encoder.ebar_suffix_ids)
        slots, pad_id = encoder.template.slots_per_prompt, encoder.pad_id
        if self.settings.packing:
            room = sum(len(text) for text in texts) + len(texts) * sum(len(part) for part in suffixes)
            packed = packed_layout(texts, *suffixes, slots=slots, pad_id=pad_id, capacity=room)
            batch = {"input_ids": packed.input_ids, "segments": packed.segments, "slots": packed.slot_columns}
            batch |= {"documents": packed.documents, "slot_rows": packed.slot_rows}
        else:
            layout = joint_layout(texts, *suffixes, slots=slots, pad_id=pad_id)
            batch = {"input_ids": layout.input_ids, "segments": layout.segments, "slots": layout.slots}
        batch["counts"] = torch.tensor([int((batch["segments"] > 0).sum()), batch["segments"].numel()])
        for name, targets in (("ebae", [one.own for one in pieces]), ("ebar", [one.after for one in pieces])):
            rows, ids, weights = self.rule.targets(targets)
            batch |= {f"{name}_rows": rows, f"{name}_ids": ids, f"{name}_weights": weights}
        return batch

    def _texts_of(self, row: int, start: int, length: int) -> Piece:
        """The span, and what its slots must name: itself; what follows it, or what stands around it."""
        text, following = self.texts.row(row), self.next_texts.row(row)
        if self.settings.minimum_span is None:
            reach = self.settings.target_length
            own = text[:length] if reach is None else text[:reach]
            return Piece(text[:length], own, following[: reach or self.settings.text_length])
        span = text[start : start + length]
        if self.settings.ebar_target == "around" and length < len(text):
            # A query is a short piece of what it looks for: the span must recall the rest of its passage.
            reach = self.settings.text_length
            return Piece(span, span, text[max(0, start - reach) : start + length + reach])
        after = np.concatenate([text[start + length : start + 2 * length], following[:length]])
        return Piece(span, span, after[:length])
