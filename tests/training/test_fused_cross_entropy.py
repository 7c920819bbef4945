"""The fused loss against torch's cross entropy on the full logits: value and every gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CohereConfig, CohereForCausalLM, Gemma2Config, Gemma2ForCausalLM

from llara_core.training.fused_cross_entropy import (
    Head,
    fused_cross_entropy,
    output_logits,
    summed_cross_entropy,
)

ROWS, WIDTH, WORDS = 23, 8, 37


def pieces(
    dtype: torch.dtype = torch.float64, *, bias: bool = True
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """States, weight, bias and targets with logits large enough that softmax is far from flat."""
    generator = torch.Generator().manual_seed(0)
    states, weight, offset = (
        torch.randn(shape, generator=generator, dtype=torch.float64).mul(3).to(dtype).requires_grad_()
        for shape in ((ROWS, WIDTH), (WORDS, WIDTH), (WORDS,))
    )
    return (
        states,
        weight,
        offset if bias else None,
        torch.randint(WORDS, (ROWS,), generator=generator),
    )


def plain(states: Tensor, head: Head, targets: Tensor) -> Tensor:
    logits = functional.linear(states, head.weight, head.bias) * head.scale
    if head.cap is not None:
        logits = head.cap * torch.tanh(logits / head.cap)
    return functional.cross_entropy(logits, targets, reduction="sum")


def gradients(loss: Tensor, *leaves: Tensor | None) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [leaf for leaf in leaves if leaf is not None]))


@pytest.mark.parametrize("chunk", [1, 5, 23, 100])
@pytest.mark.parametrize(("scale", "cap"), [(1.0, None), (0.25, None), (1.0, 5.0), (0.5, 4.0)])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_plain_cross_entropy(chunk: int, scale: float, cap: float | None, bias: bool) -> None:
    states, weight, offset, targets = pieces(bias=bias)
    head = Head(weight, offset, scale, cap)
    expected, found = plain(states, head, targets), fused_cross_entropy(head, states, targets, chunk)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)
    leaves = (states, weight, offset)
    # The factor stands for what comes after: normaliser, weight of the term, number of processes.
    for one, other in zip(gradients(found * 0.3, *leaves), gradients(expected * 0.3, *leaves), strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=0)


def test_a_target_that_cannot_be_is_not_infinite() -> None:
    states = torch.zeros(1, 1)
    weight = torch.tensor([[0.0], [0.0]])
    head = Head(weight, torch.tensor([500.0, -500.0]))
    assert fused_cross_entropy(head, states, torch.tensor([1]), 4).item() == 1000.0


def test_what_is_frozen_gets_no_gradient() -> None:
    states, weight, _, targets = pieces()
    loss = fused_cross_entropy(Head(weight.detach(), None), states, targets, 7)
    (found,) = torch.autograd.grad(loss, states)
    (expected,) = torch.autograd.grad(plain(states, Head(weight, None), targets), states)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)
    loss = fused_cross_entropy(Head(weight, None), states.detach(), targets, 7)
    (found,) = torch.autograd.grad(loss, weight)
    (expected,) = torch.autograd.grad(plain(states.detach(), Head(weight, None), targets), weight)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)
    with torch.no_grad():
        assert not fused_cross_entropy(Head(weight, None), states, targets, 7).requires_grad


def test_nothing_to_predict_is_zero_with_a_graph() -> None:
    states, weight, offset, _ = pieces()
    loss = fused_cross_entropy(Head(weight, offset), states[:0], torch.zeros(0, dtype=torch.long), 4)
    assert loss.item() == 0.0
    assert all(not part.any() for part in gradients(loss, states, weight, offset))


def test_a_second_derivative_is_refused() -> None:
    states, weight, _, targets = pieces()
    loss = fused_cross_entropy(Head(weight, None), states, targets, 7)
    (first,) = torch.autograd.grad(loss, states, create_graph=True)
    with pytest.raises(RuntimeError):
        first.sum().backward()


def test_a_second_backward_pass_is_refused() -> None:
    states, weight, _, targets = pieces()
    loss = fused_cross_entropy(Head(weight, None), states, targets, 7)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError):
        loss.backward()


def test_bfloat16_sums_in_float32() -> None:
    states, weight, _, targets = pieces(torch.bfloat16)
    many = states.repeat(40, 1).detach().requires_grad_()
    labels = targets.repeat(40)
    exact = plain(many.double(), Head(weight.double(), None), labels)
    (expected,) = torch.autograd.grad(exact, weight)
    deviations = []
    for chunk in (len(many), 4):  # 230 chunks added up in bfloat16 would be far off
        loss = fused_cross_entropy(Head(weight, None), many, labels, chunk)
        assert loss.dtype == torch.float32 and loss.item() == pytest.approx(exact.item(), rel=5e-3)
        found, on_states = gradients(loss, weight, many)
        assert found.dtype == on_states.dtype == torch.bfloat16
        deviations.append(((found - expected).norm() / expected.norm()).item())
    assert deviations[1] < 1.2 * deviations[0] < 0.02


def test_autocast_multiplies_in_its_dtype_and_keeps_float32_gradients() -> None:
    states, weight, _, targets = pieces(torch.float32)
    exact = plain(states, Head(weight, None), targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = fused_cross_entropy(Head(weight, None), states, targets, 7)
    assert loss.dtype == torch.float32 and loss.item() != exact.item()
    assert loss.item() == pytest.approx(exact.item(), rel=1e-2)
    found, expected = gradients(loss, states, weight), gradients(exact, states, weight)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert ((one - other).norm() / other.norm()).item() < 2e-2


# ------------------------------------------------------------------------------- heads of real models
SIZES = {"vocab_size": WORDS, "hidden_size": WIDTH, "intermediate_size": 12, "num_hidden_layers": 1,
         "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "pad_token_id": 0}  # fmt: skip


@pytest.mark.parametrize(
    "model",
    [
        Gemma2ForCausalLM(Gemma2Config(**SIZES, final_logit_softcapping=2.0)),
        CohereForCausalLM(CohereConfig(**SIZES, logit_scale=0.0625)),
    ],
    ids=["soft-capped", "scaled"],
)
def test_logits_are_those_of_the_model(model: Any) -> None:
    ids = torch.arange(1, 12)[None]
    with torch.no_grad():
        states = model.model(ids).last_hidden_state
        torch.testing.assert_close(output_logits(model, states), model(ids).logits)
        expected = functional.cross_entropy(model(ids).logits[0], ids[0], reduction="sum")
        torch.testing.assert_close(summed_cross_entropy(model, states[0], ids[0]), expected)


class Doubled(nn.Linear):
    """A head that is more than its weight."""

    def forward(self, states: Tensor) -> Tensor:
        return 2.0 * super().forward(states)


def test_a_head_that_is_more_than_a_linear_layer_is_called_as_it_is() -> None:
    model = Gemma2ForCausalLM(Gemma2Config(**SIZES, tie_word_embeddings=False)).double()
    assert Head.of(model) is not None
    model.lm_head.register_forward_hook(lambda *_: None)  # e.g. one that gathers shards
    assert Head.of(model) is None
    model.lm_head = Doubled(WIDTH, WORDS, bias=False).double()
    assert Head.of(model) is None
    states, _, _, targets = pieces()
    loss = summed_cross_entropy(model, states, targets)
    expected = functional.cross_entropy(output_logits(model, states), targets, reduction="sum")
    torch.testing.assert_close(loss, expected, atol=1e-9, rtol=0)
    weight = model.lm_head.weight
    for one, other in zip(gradients(loss, states, weight), gradients(expected, states, weight), strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=0)
    nothing = summed_cross_entropy(model, states[:0], targets[:0])
    assert nothing.item() == 0.0 and nothing.requires_grad
