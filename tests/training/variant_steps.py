"""The first step of a stage in one variant, forward and backward, by hand; shared by several test files."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor

from llara_core.config import (
    AdaptSettings,
    FinetuneSettings,
    FromScratchSettings,
    LoraSettings,
    ModelSettings,
)
from llara_core.model.adapters import (
    load_for_training,
    trainable_model,
)
from llara_core.model.backbone import decoder_of
from llara_core.model.bundle import Bundle, read_bundle
from llara_core.model.prepare import prepare_base
from llara_core.training.adapt import plan
from llara_core.training.contrastive import ContrastiveObjective
from llara_core.training.objectives import AdaptationObjective
from llara_core.training.pairs import ContrastiveBatches, TrainingPairs
from tests.training.test_stages import make_collection

SEED = 3
NO_NEGATIVES = pa.table({"query_id": pa.array([], pa.string()), "corpus_id": pa.array([], pa.string())})
STAGES = ("adapt", "finetune")
# Losses are about 6 and 3 nats here. bfloat16 keeps 8 bits, and a cosine is divided by 0.05.
CLOSE = {"float32": 1e-5, "bfloat16": 0.05}

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)
METHODS = ["full", "lora", pytest.param("qlora", marks=needs_bitsandbytes)]
COLLECTION = make_collection()


def lora_of(method: str, dropout: float = 0.0) -> LoraSettings | None:
    if method == "full":
        return None
    return LoraSettings(rank=4, alpha=8, dropout=dropout, quantization="nf4" if method == "qlora" else "none")


def stage_settings(stage: str, method: str, **changes: Any) -> Any:
    values = {"steps": 3, "batch_size": 12, "learning_rate": 1e-2, "lora": lora_of(method), **changes}
    if stage == "adapt":
        return AdaptSettings(**{"preset": "released", "text_length": 16, **values})
    return FinetuneSettings(**{"temperature": 0.05, "hard_negatives": 0, **values})


def adaptation_rows() -> pa.Table:
    texts = COLLECTION.passages
    return pa.table({"text": texts, "next_text": [*texts[1:], ""]})


def make_bundle(folder: Path, tied: bool, dtype: str) -> Bundle:
    """A base bundle; the weights are the same in both dtypes."""
    scratch = FromScratchSettings(
        vocabulary_size=600, hidden_size=64, intermediate_size=128, layers=2, heads=2,
        max_positions=64, tie_embeddings=tied,
    )  # fmt: skip
    model = ModelSettings(
        from_scratch=scratch, template="slots", query_length=12, passage_length=24, dtype=dtype
    )
    return read_bundle(prepare_base(model, COLLECTION, folder, SEED))


def first_batches(stage: str, bundle: Bundle, encoder: Any, settings: Any) -> list[dict[str, Tensor]]:
    if stage == "adapt":
        vocabulary = len(encoder.tokenizer)
        batches, _ = plan(adaptation_rows(), encoder, settings, vocabulary, SEED)
        return batches.part(0, 0, 1)
    pairs = TrainingPairs.collect(COLLECTION, NO_NEGATIVES, "train")
    return ContrastiveBatches(pairs, COLLECTION, encoder, settings, SEED).part(0, 0, 1)


def four_bit_weights(bundle: Bundle) -> dict[str, Tensor]:
    """The linear layers' weights as 4 bits hold them, as float32: {name: weight}."""
    from bitsandbytes.functional import dequantize_4bit

    model, _ = bundle.load("cpu", "nf4")
    return {
        f"{name}.weight": dequantize_4bit(module.weight.data, module.weight.quant_state).float()
        for name, module in model.named_modules()
        if type(module).__name__ == "Linear4bit"
    }


class Step:
    """The first step of a stage, forward and backward, by hand."""

    def __init__(
        self, stage: str, bundle: Bundle, settings: Any, autocast: bool = False, rounded: bool = False
    ) -> None:
        model, tokenizer = load_for_training(bundle, settings, "cpu")
        if rounded:
            model.load_state_dict(four_bit_weights(bundle), strict=False)
        self.encoder = bundle.encoder(tokenizer)
        slots = [*self.encoder.ebae_slot_ids, *self.encoder.ebar_slot_ids] if stage == "adapt" else []
        self.model = trainable_model(model, settings, SEED, slots, head=stage == "adapt").train()
        if stage == "adapt":
            objective: Any = AdaptationObjective(self.model, settings, len(self.encoder.prefix_ids))
        else:
            objective = ContrastiveObjective(self.model, settings, bundle.template.slots_per_prompt)
        torch.manual_seed(SEED)  # of dropout
        self.loss = 0.0
        for batch in first_batches(stage, bundle, self.encoder, settings):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                loss = objective(batch)["loss"]
            loss.backward()
            self.loss += float(loss.detach())

    def gradients(self) -> dict[str, Tensor]:
        named = self.model.named_parameters()
        return {name: one.grad for name, one in named if one.grad is not None}

    def move(self) -> None:
        """A plain descent step, large enough to be seen."""
        with torch.no_grad():
            for weight in self.model.parameters():
                if weight.grad is not None:
                    weight.sub_(0.05 * weight.grad / (weight.grad.norm() + 1e-8))

    @torch.no_grad()
    def states(self, model: Any) -> Tensor:
        ids = torch.tensor(self.encoder.encode_batch([COLLECTION.passages[0]], "passage"))
        mask = torch.ones_like(ids)
        return decoder_of(model.eval())(
            input_ids=ids, attention_mask=mask, use_cache=False
        ).last_hidden_state.float()
