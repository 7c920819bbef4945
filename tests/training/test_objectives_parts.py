"""A step is the sum of its micro-batches: loss and every gradient, however it is cut and shared out."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from llara_core.config import AdaptSettings
from llara_core.training.adaptation_rows import AdaptationBatches
from llara_core.training.adaptation_targets import TargetRule, TokenRows
from llara_core.training.objectives import AdaptationObjective

VOCABULARY, SPECIAL = 40, 6
ENCODER = SimpleNamespace(
    prefix_ids=[1], ebae_suffix_ids=[7, 2, 3], ebar_suffix_ids=[8, 4, 5], pad_id=0,
    template=SimpleNamespace(slots_per_prompt=2),
)  # fmt: skip


TERMS = ("loss", "ebae", "ebar", "language_model")  # what it returns besides is for the log


def make_model(*, tied: bool, dtype: torch.dtype) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=tied,
    )  # fmt: skip
    return LlamaForCausalLM(config).to(dtype).train()


def make_batches(**changed: object) -> AdaptationBatches:
    random = np.random.default_rng(0)
    texts = [random.integers(SPECIAL, VOCABULARY, random.integers(1, 30)).tolist() for _ in range(14)]
    texts[3] = [2, 3]  # special tokens only: no target
    following = [*texts[1:], []]
    weights = np.ones(VOCABULARY, dtype=np.float32)
    weights[texts[5]] = 0.0  # words that weigh nothing
    rule = TargetRule(np.arange(VOCABULARY) < SPECIAL, token_weights=weights)
    settings = AdaptSettings(
        **{"steps": 2, "batch_size": 14, "text_length": 20, "preset": "released", **changed}
    )
    return AdaptationBatches(TokenRows.pack(texts), TokenRows.pack(following), ENCODER, rule, settings, 0)


def micro_batches(batches: AdaptationBatches, world: int) -> Iterator[dict[str, torch.Tensor]]:
    for rank in range(world):
        part = batches.part(1, rank, world)
        assert part  # a process is never without work
        yield from part


def summed(objective: AdaptationObjective, batches: AdaptationBatches, world: int) -> dict[str, float]:
    """Every term and gradient of step 1."""
    objective.zero_grad()
    terms: dict[str, float] = {}
    for batch in micro_batches(batches, world):
        found = objective(batch)
        found["loss"].backward()
        for name in TERMS:
            terms[name] = terms.get(name, 0.0) + found[name].detach()
    gradients = {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}
    return terms | gradients


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
def test_parts_add_up_to_the_step(tied: bool, dtype: torch.dtype, tolerance: float) -> None:
    model = make_model(tied=tied, dtype=dtype)
    whole = make_batches(micro_batch_tokens=10**6)
    whole.cutting = type(whole.cutting)(call_cost=10**6, most=10**6)
    assert len(whole.part(1)) == 1
    objective = AdaptationObjective(model, whole.settings, len(ENCODER.prefix_ids))
    expected = summed(objective, whole, 1)
    # The whole batch without any word about a step is the same step.
    (batch,) = whole.part(1)
    bare = objective({name: value for name, value in batch.items() if not name.endswith("_total")})
    for name in TERMS:
        torch.testing.assert_close(bare[name].detach(), expected[name], atol=tolerance, rtol=0)
    for world in (1, 2, 3, 20):
        for tokens in (1, 60, 10**6):
            found = summed(objective, make_batches(micro_batch_tokens=tokens), world)
            assert found.keys() == expected.keys()
            for name, value in expected.items():
                torch.testing.assert_close(found[name], value, atol=tolerance, rtol=0, msg=name)


def test_the_step_is_the_same_whatever_the_cut() -> None:
    whole, pieces = make_batches(), make_batches(micro_batch_tokens=1)
    assert [plan.tolist() for plan in whole.plan] == [plan.tolist() for plan in pieces.plan]
    assert len(list(micro_batches(pieces, 1))) == 14
    rows = [int(row) for batch in micro_batches(pieces, 3) for row in batch["row_ids"]]
    assert sorted(rows) == sorted(whole.plan[1][:, 0].tolist())


@pytest.mark.parametrize("tokens", [None, 90])
def test_packed_rows_are_the_same_step_without_padding(tokens: int | None) -> None:
    model = make_model(tied=False, dtype=torch.float64)
    plain, packed = make_batches(), make_batches(packing=True, micro_batch_tokens=tokens)
    objective = AdaptationObjective(model, plain.settings, len(ENCODER.prefix_ids))
    expected = summed(objective, plain, 1)
    parts = list(micro_batches(packed, 1))
    assert len(parts) == 1 if tokens is None else len(parts) > 2
    for batch in parts:
        real, computed = batch["counts"].tolist()
        assert real == computed == batch["input_ids"].shape[1] <= (tokens or 10**6)
    for world in (1, 3, 20):
        found = summed(objective, packed, world)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, atol=1e-10, rtol=0, msg=name)


def test_normalisers_by_hand() -> None:
    batches = make_batches(micro_batch_tokens=50)
    lengths = batches.plan[1][:, 2]
    for batch in micro_batches(batches, 2):
        assert batch["language_model_total"] == int(lengths.sum())  # a prefix stands before each text
        real, computed = batch["counts"].tolist()
        assert real == int((batch["segments"] > 0).sum()) <= computed == batch["input_ids"].numel()
    parts = list(micro_batches(batches, 2))
    for name in ("ebae", "ebar"):
        found = sum(len(torch.unique(batch[f"{name}_rows"])) for batch in parts)
        assert 0 < found == int(parts[0][f"{name}_total"]) < 14


def test_a_process_without_rows_adds_nothing_but_takes_part() -> None:
    batches = make_batches()
    (batch,) = batches.part(1, 19, 20)
    objective = AdaptationObjective(make_model(tied=False, dtype=torch.float32), batches.settings, 1)
    terms = objective(batch)
    terms["loss"].backward()
    assert {terms[name].item() for name in TERMS} == {0.0}
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None and not parameter.grad.any(), name
