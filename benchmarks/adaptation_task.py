"""For benchmarks/adaptation_step.py: the same rows and model, worked on by ours and by the published step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from adaptation_texts import Pairs, Shape
from torch import Tensor

from llara_core.config import AdaptSettings
from llara_core.training.adaptation_rows import AdaptationBatches
from llara_core.training.adaptation_targets import TargetRule, TokenRows
from llara_core.training.flops import ForwardFlops, batch_work
from llara_core.training.micro_batches import cut_rule
from llara_core.training.objectives import AdaptationObjective
from tests.oracles.published_adaptation_step import (
    PublishedPrompts,
    published_batch,
    published_loss,
)

OURS, PLAIN = "llara", "published step, plain"


@dataclass
class Task:
    """Rows and model that both ways work on.

    Args:
        shape: of model and step.
        prompts: around every text.
        model: with random weights.
        pairs: as many rows as the steps need.
    """

    shape: Shape
    prompts: PublishedPrompts
    model: Any
    pairs: Pairs

    @property
    def encoder(self) -> Any:
        """The prompts as ``AdaptationBatches`` takes them."""
        prompts = self.prompts
        return SimpleNamespace(
            prefix_ids=prompts.prefix, ebae_suffix_ids=prompts.ebae_suffix, pad_id=prompts.pad_id,
            ebar_suffix_ids=prompts.ebar_suffix, template=SimpleNamespace(slots_per_prompt=prompts.slots),
        )  # fmt: skip

    def our_batches(self) -> tuple[AdaptationBatches, AdaptSettings]:
        """All steps of ours, and their settings."""
        settings = AdaptSettings(
            preset="released", steps=len(self.pairs) // self.shape.batch, batch_size=self.shape.batch,
            text_length=self.shape.length,
        )  # fmt: skip
        excluded = np.zeros(self.model.config.vocab_size, dtype=bool)
        excluded[list(self.prompts.special_ids)] = True
        batches = AdaptationBatches(
            TokenRows.pack([text for text, _ in self.pairs]),
            TokenRows.pack([after for _, after in self.pairs]),
            self.encoder, TargetRule(excluded), settings, 0, cut_rule(self.shape.device, None),
        )  # fmt: skip
        return batches, settings

    def ours(self) -> list[float]:
        """Loss of every step of ours, its gradients added up in the model."""
        batches, settings = self.our_batches()
        objective = AdaptationObjective(self.model, settings, len(self.prompts.prefix))
        losses = []
        for step in range(len(batches)):
            loss = 0.0
            for batch in batches.part(step):
                terms = objective(moved(batch, self.shape.device))
                terms["loss"].backward()
                loss += terms["loss"].item()
            losses.append(loss)
        return losses

    def plain_batches(self) -> Iterator[dict[str, Any]]:
        """The published batch of every step."""
        for start in range(0, len(self.pairs), self.shape.batch):
            rows = self.pairs[start : start + self.shape.batch]
            texts, following = [text for text, _ in rows], [after for _, after in rows]
            yield published_batch(texts, texts, following, self.prompts)

    def plain(self) -> list[float]:
        """The same, plainly."""
        losses = []
        for batch in self.plain_batches():
            loss = published_loss(self.model, moved(batch, self.shape.device), self.prompts)
            loss.backward()
            losses.append(loss.item())
        return losses

    @property
    def ways(self) -> dict[str, Callable[[], list[float]]]:
        """Both by name."""
        return {OURS: self.ours, PLAIN: self.plain}

    def padding(self, way: str) -> float:
        """Share of the positions of all steps that are padding."""
        if way == OURS:
            batches = self.our_batches()[0]
            parts = [part["counts"] for step in range(len(batches)) for part in batches.part(step)]
            real, positions = torch.stack(parts).sum(dim=0).tolist()
        else:
            masks = [batch["attention_mask"] for batch in self.plain_batches()]
            real = sum(int(mask.sum()) for mask in masks)
            positions = sum(mask.numel() for mask in masks)
        return 1.0 - real / positions

    def work(self) -> Tensor:
        """What all rows need, padding left out, as ``flops.batch_work`` counts it: float64 [3]."""
        settings = AdaptSettings(preset="released", text_length=self.shape.length, batch_size=len(self.pairs))
        rule = TargetRule(np.zeros(self.model.config.vocab_size, dtype=bool))
        rows = [TokenRows.pack([pair[side] for pair in self.pairs]) for side in (0, 1)]
        batches = AdaptationBatches(rows[0], rows[1], self.encoder, rule, settings, 0)
        objective = AdaptationObjective(self.model, settings, len(self.prompts.prefix))
        return torch.stack([batch_work(objective, batch) for batch in batches.part(0)]).sum(dim=0)

    def flops(self) -> float:
        """Floating-point operations that the rows need, padding left out."""
        return 3.0 * ForwardFlops(self.model).total(self.work())


def moved(batch: dict[str, Any], device: str) -> dict[str, Any]:
    """A batch on a device."""
    return {name: value.to(device) for name, value in batch.items()}
