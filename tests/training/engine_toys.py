"""A stage of planned steps on a model of 3,000 weights, for tests of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from llara_core.config import OptimizerSettings

VOCABULARY = 40


def toy_model(seed: int = 0) -> Any:
    """A one-layer Llama with random weights, in training mode."""
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    torch.manual_seed(seed)
    return LlamaForCausalLM(config).train()


class ToyObjective(nn.Module):
    """Next-token loss of rows without padding, divided by the tokens of the whole step.

    ``factor`` multiplies the loss; ``spike`` adds a term of value 0 whose gradient is infinite.
    """

    def __init__(self, model: Any, cosine: float | None = None) -> None:
        super().__init__()
        self.model, self.cosine = model, cosine
        self.seen: list[list[str]] = []

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The share of the loss."""
        self.seen.append(sorted(batch))
        ids = batch["ids"]
        logits = self.model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        loss = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")
        loss = loss / batch["total"] * batch["factor"]
        if batch["spike"]:
            weight = self.model.lm_head.weight[0, 0]
            loss = loss + torch.sqrt(weight - weight.detach())
        share = torch.tensor(1.0 / int(batch["parts"]))
        if self.cosine is not None:  # two texts' embeddings, one longer than the other
            sine = (1 - self.cosine**2) ** 0.5
            self.embeddings = torch.tensor([[3.0, 0.0], [self.cosine, sine]])
        return {"loss": loss, "half": loss / 2, "one": share}


class ToyBatches:
    """``steps`` steps of eight rows, cut into ``cuts`` micro-batches a process.

    Args:
        steps: number of steps.
        cuts: micro-batches of one process.
        factors: step to the factor of its last micro-batch, e.g. NaN.
        spikes: steps whose last micro-batch has a spike.
        same: every step has the same rows.
    """

    def __init__(
        self,
        steps: int,
        cuts: int = 1,
        factors: Mapping[int, float] | None = None,
        spikes: tuple[int, ...] = (),
        same: bool = False,
    ) -> None:
        self.steps, self.cuts, self.factors, self.spikes = steps, cuts, factors or {}, spikes
        random = torch.Generator().manual_seed(1)
        rows = [torch.randint(VOCABULARY, (8, 6), generator=random) for _ in range(steps)]
        self.rows = [rows[0]] * steps if same else rows

    def __len__(self) -> int:
        """Number of steps."""
        return self.steps

    def part(self, step: int, rank: int, world: int) -> list[dict[str, Tensor]]:
        """The micro-batches of a process."""
        mine = torch.arange(rank, 8, world)
        pieces = torch.tensor_split(mine, self.cuts)
        batches = []
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            batches.append(
                {
                    "ids": self.rows[step][piece],
                    "total": torch.tensor(8 * 5),
                    "parts": torch.tensor(self.cuts * world),
                    "factor": torch.tensor(self.factors.get(step, 1.0) if last else 1.0),
                    "spike": torch.tensor(last and step in self.spikes),
                    "counts": torch.tensor([6 * len(piece), 7 * len(piece)]),
                    "row_ids": 100 * step + piece,
                }
            )
        return batches


def settings(**changes: Any) -> OptimizerSettings:
    """Six steps with a log line each; a constant rate, so that fewer steps are the start of more."""
    values = {"steps": 6, "learning_rate": 1e-2, "warmup_fraction": 0.0, "schedule": "constant",
              "log_every": 1, "checkpoint_every": None}  # fmt: skip
    return OptimizerSettings(**{**values, **changes})
