"""The ``released`` preset against the published step written plainly: loss and gradients."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from llara_core.config import AdaptSettings
from llara_core.training.adaptation_rows import AdaptationBatches
from llara_core.training.adaptation_targets import TargetRule, TokenRows
from llara_core.training.objectives import AdaptationObjective
from tests.oracles.published_adaptation_step import PublishedPrompts, published_batch, published_loss

VOCABULARY, SPECIAL = 120, 3
PREFIX, EBAE, EBAR = [1, 40], [41, 42, 43, 110, 111], [41, 44, 115, 116]
PROMPTS = PublishedPrompts(PREFIX, EBAE, EBAR, 2, 0, frozenset(range(SPECIAL)))
ENCODER = SimpleNamespace(
    prefix_ids=PREFIX, ebae_suffix_ids=EBAE, ebar_suffix_ids=EBAR, pad_id=0,
    template=SimpleNamespace(slots_per_prompt=2),
)  # fmt: skip


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("micro_batch_tokens", [None, 40])
def test_same_loss_and_gradients(attention: str, micro_batch_tokens: int | None) -> None:
    random = np.random.default_rng(0)
    texts = [random.integers(0, VOCABULARY, random.integers(1, 24)).tolist() for _ in range(7)]
    following = [*texts[1:-1], [], [1, 2]]  # no text, and none but special tokens
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.2, attn_implementation=attention,
    )  # fmt: skip
    model = LlamaForCausalLM(config).train()
    settings = AdaptSettings(
        preset="released", steps=1, batch_size=7, text_length=20, micro_batch_tokens=micro_batch_tokens
    )
    cut = [text[:20] for text in texts]
    loss = published_loss(
        model, published_batch(cut, cut, [text[:20] for text in following], PROMPTS), PROMPTS
    )
    loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()

    batches = AdaptationBatches(
        TokenRows.pack(texts), TokenRows.pack(following), ENCODER,
        TargetRule(np.arange(VOCABULARY) < SPECIAL), settings, seed=0,
    )  # fmt: skip
    objective = AdaptationObjective(model, settings, len(PREFIX))
    total = 0.0
    for batch in batches.part(0):
        found = objective(batch)["loss"]
        found.backward()
        total += found.item()
    assert total == pytest.approx(loss.item(), abs=1e-5)
    norms = [torch.stack([g.norm() for g in expected.values()]).norm()]
    norms.append(torch.stack([p.grad.norm() for p in model.parameters()]).norm())
    assert norms[1].item() == pytest.approx(norms[0].item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=1e-4, msg=name)
