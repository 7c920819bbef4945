"""A step on tensors without numbers: operations and memory against what is counted by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from llara_core.config import (
    AdaptSettings,
    FinetuneSettings,
    FromScratchSettings,
    LoraSettings,
    ModelSettings,
)
from llara_core.training import plan_stages
from llara_core.training.objectives import AdaptationObjective
from llara_core.training.plan_batches import Subject, adaptation_parts
from llara_core.training.plan_model import PlanEncoder, build_model, model_config
from llara_core.training.plan_rehearsal import MISSING_FORMULAS, rehearse
from llara_core.training.plan_stages import rehearse_stage

SIZES = {"vocabulary_size": 200, "hidden_size": 32, "intermediate_size": 48, "layers": 2, "heads": 4}


def subject(template: str = "slots", **changes: object) -> Subject:
    model = ModelSettings(
        from_scratch=FromScratchSettings(**{**SIZES, **changes}),
        template=template,
        query_length=8,
        passage_length=24,
    )
    return Subject(model, model_config(model), PlanEncoder(model), "cpu")


class Chain(nn.Module):
    """loss = sum(tanh(x W)), all of whose tensors can be counted by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(64, 256))

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        inputs = torch.ones(batch["ids"].shape[0], 64)
        return {"loss": torch.tanh(inputs @ self.weight).sum()}


def test_memory_and_operations_by_hand() -> None:
    with torch.device("meta"):
        module = Chain()
    batch = {"ids": torch.zeros(1000, dtype=torch.long), "counts": torch.tensor([1000, 1000])}
    found = rehearse(module, [batch], vocabulary=999)
    weight, inputs, wide = 64 * 256 * 4, 1000 * 64 * 4, 1000 * 256 * 4
    assert (found.parameters, found.gradients, found.optimizer) == (64 * 256, weight, 2 * weight)
    # Forward product and the weight's gradient; the inputs need none.
    assert found.flops == 2 * (2 * 1000 * 64 * 256)
    forward, early, late = (sum(moment.values()) for moment in found.moments)
    assert forward == pytest.approx(weight + inputs + 2 * wide, rel=0.01)  # product and its tanh, at once
    assert max(early, late) == pytest.approx(weight + inputs + 2 * wide + weight, rel=0.1)
    assert found.moments[0]["weights"] == weight


def test_a_second_micro_batch_finds_gradients_in_place() -> None:
    with torch.device("meta"):
        module = Chain()
    batch = {"ids": torch.zeros(10, dtype=torch.long), "counts": torch.tensor([10, 10])}
    found = rehearse(module, [batch, batch, batch], vocabulary=999)
    assert found.moments[0]["gradients"] == 64 * 256 * 4
    assert found.flops == 3 * 2 * (2 * 10 * 64 * 256) and found.micro_batches == 3


def test_operations_of_a_llama_step_by_hand() -> None:
    """Six times parameters times positions, and attention: the textbook count for a full step."""
    at, batch, words = subject(), 4, 20
    settings = AdaptSettings(batch_size=batch, text_length=words)
    found = rehearse_stage(at, settings)
    positions = batch * (1 + words + 2)  # begin, text, one slot a prompt
    assert found.positions == positions
    matrices = 2 * (4 * 32 * 32 + 3 * 32 * 48)
    width = 1 + words + 2
    attention = 2 * batch * width * width * 32 * (4 + 10)  # two products forward, five backward, 2 FLOPs each
    head = 2 * 3 * (batch * 2) * 32 * at.vocabulary
    assert found.flops == pytest.approx(6 * matrices * positions + attention + head, rel=1e-6)


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("words", [12, 300])  # from 256 on, a CPU splits attention under sdpa
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_operations_are_those_of_a_real_step(attention: str, words: int, packing: bool) -> None:
    at = subject("llama2vec", max_positions=400)
    at.config._attn_implementation = attention
    settings = AdaptSettings(preset="released", batch_size=3, text_length=words, packing=packing)
    found = rehearse_stage(at, settings)
    module = AdaptationObjective(build_model(at.config, torch.float32), settings, len(at.encoder.prefix_ids))
    with FlopCounterMode(display=False, custom_mapping=MISSING_FORMULAS) as counter:
        for batch in adaptation_parts(at, settings)[0]:
            module(batch)["loss"].backward()
    assert found.flops == counter.get_total_flops()


def test_packed_sequences_compute_the_pairs_that_they_mask() -> None:
    at, rows, words = subject(), 5, 20
    settings = AdaptSettings(batch_size=rows, text_length=words)
    apart, packed = (
        rehearse_stage(at, settings.model_copy(update={"packing": packing})) for packing in (False, True)
    )
    width = 1 + words + 2
    assert apart.positions == packed.positions == rows * width
    # One square of all rows instead of one square a row; operations as counted by hand above.
    missing = (rows * width) ** 2 - rows * width**2
    assert packed.flops - apart.flops == 2 * 32 * (4 + 10) * missing


def test_flex_attention_is_planned_without_the_pairs_that_it_skips() -> None:
    plain = subject()
    at = replace(plain, model=plain.model.model_copy(update={"attention": "flex_attention"}))
    settings = AdaptSettings(batch_size=9, text_length=20, packing=True, micro_batch_tokens=23 * 4)
    packed, found = rehearse_stage(plain, settings), rehearse_stage(at, settings)
    assert found.micro_batches == packed.micro_batches == 3
    assert found.positions == packed.positions
    assert found.flops == rehearse_stage(plain, settings.model_copy(update={"packing": False})).flops


def test_parts_of_a_small_model_add_up() -> None:
    at = subject()
    found = rehearse_stage(at, AdaptSettings(batch_size=4, text_length=20))
    parameters = sum(weights.numel() for weights in build_model(at.config, torch.float32).parameters())
    assert found.parameters == found.trained == parameters
    assert found.gradients == 4 * parameters and found.optimizer == 8 * parameters
    assert found.parts["weights"] == pytest.approx(4 * parameters, rel=0.02)  # and rotary frequencies
    assert found.peak == sum(found.parts.values())


def test_adapters_train_little_and_recomputation_saves_activations() -> None:
    at = subject(layers=4)
    plain = rehearse_stage(at, AdaptSettings(batch_size=16, text_length=20))
    lora = rehearse_stage(at, AdaptSettings(batch_size=16, text_length=20, lora=LoraSettings(rank=2)))
    again = rehearse_stage(at, AdaptSettings(batch_size=16, text_length=20, gradient_checkpointing=True))
    assert lora.trained < 0.2 * plain.trained and lora.optimizer < 0.2 * plain.optimizer
    assert again.moments[0]["activations"] < 0.5 * plain.moments[0]["activations"]
    # The layers' forward pass is computed once more: a third on top of all three passes, at most.
    assert 1.1 * plain.flops < again.flops < 1.34 * plain.flops


def test_gradient_cache_holds_one_sub_batch() -> None:
    at = subject()
    values = {"batch_size": 12, "hard_negatives": 3, "lora": None, "micro_batch_tokens": 200}
    plain = rehearse_stage(at, FinetuneSettings(**values))
    cached = rehearse_stage(at, FinetuneSettings(**values, gradient_cache=True))
    assert cached.peak < 0.6 * plain.peak and cached.flops > plain.flops
    assert cached.positions == plain.positions


@pytest.mark.parametrize(
    "settings",
    [
        AdaptSettings(preset="released", batch_size=4, text_length=16),
        AdaptSettings(batch_size=6, text_length=16, micro_batch_tokens=50, gradient_checkpointing=True),
        FinetuneSettings(batch_size=3, hard_negatives=1, lora=LoraSettings(rank=2)),
    ],
    ids=["adapt", "adapt recomputed", "finetune"],
)
def test_few_layers_tell_of_many(settings: AdaptSettings | FinetuneSettings, monkeypatch) -> None:
    at = subject(layers=8)
    straight = rehearse_stage(at, settings)
    monkeypatch.setattr(plan_stages, "MANY_LAYERS", 8)
    every = rehearse_stage(at, settings)
    assert straight.flops == pytest.approx(every.flops, rel=1e-9)
    assert straight.peak == pytest.approx(every.peak, rel=0.01)
    assert straight.parameters == every.parameters


def test_few_sub_batches_tell_of_many(monkeypatch) -> None:
    at = subject()
    settings = FinetuneSettings(batch_size=24, hard_negatives=3, lora=None, micro_batch_tokens=100)
    for changed in (settings, settings.model_copy(update={"gradient_cache": True})):
        few = rehearse_stage(at, changed)
        monkeypatch.setattr(plan_stages, "MANY_SUB_BATCHES", 10_000)
        every = rehearse_stage(at, changed)
        monkeypatch.undo()
        assert few.flops == pytest.approx(every.flops, rel=0.02)
        assert few.positions == pytest.approx(every.positions, rel=0.01)
        assert few.peak == pytest.approx(every.peak, rel=0.1)


def test_unlike_layers_are_all_rehearsed() -> None:
    assert not plan_stages._alike_stack([nn.Linear(2, 2), nn.Linear(2, 3)], 2)
    assert plan_stages._alike_stack([nn.Linear(2, 2), nn.Linear(2, 2)], 2)
    assert not plan_stages._alike_stack([nn.Linear(2, 2)] * 2, 5)
