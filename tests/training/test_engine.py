"""The engine in one process: the update of a plain loop, any cut into micro-batches, when it stops."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_
from transformers import get_scheduler

from llara_core.errors import TrainingError
from llara_core.training.engine import train
from llara_core.training.health import COLLAPSE_LINES, FLAT_LINES
from llara_core.training.parameter_groups import parameter_groups
from tests.training.engine_toys import ToyBatches, ToyObjective, settings, toy_model


def weights_of(model) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def trained(batches: ToyBatches, **changes) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    model = toy_model()
    result = train("adapt", ToyObjective(model), batches, settings(steps=len(batches), **changes), seed=1)
    return weights_of(model), result.curve


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_equals_a_plain_loop_with_clipping_and_a_schedule() -> None:
    changes = {"schedule": "linear", "warmup_fraction": 0.5, "gradient_clip": 0.3,
               "embedding_learning_rate": 5e-2}  # fmt: skip
    found, curve = trained(ToyBatches(6), **changes)

    model, batches = toy_model(), ToyBatches(6)
    objective = ToyObjective(model)
    optimizer = torch.optim.AdamW(parameter_groups(model, 1e-2, 5e-2, 0.01), betas=(0.9, 0.999))
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=3, num_training_steps=6)
    losses, norms = [], []
    for step in range(6):
        loss = objective(batches.part(step, 0, 1)[0])["loss"]
        loss.backward()
        norms.append(float(clip_grad_norm_(model.parameters(), 0.3)))
        losses.append(loss.item())
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    assert largest_difference(found, weights_of(model)) < 1e-6
    assert [line["loss"] for line in curve] == pytest.approx(losses, rel=1e-6)
    assert [line["grad_norm"] for line in curve] == pytest.approx(norms, rel=1e-5)
    assert largest_difference(found, weights_of(toy_model())) > 1e-3  # it did learn


def test_any_cut_into_micro_batches_gives_the_same_update() -> None:
    whole, curve = trained(ToyBatches(4))
    cut, cut_curve = trained(ToyBatches(4, cuts=5))
    assert largest_difference(whole, cut) < 1e-6
    for name in ("loss", "half", "grad_norm"):
        assert [line[name] for line in cut_curve] == pytest.approx([line[name] for line in curve], rel=1e-6)


def test_log_lines_hold_means_over_their_window_and_everything_else() -> None:
    seen: list[tuple[int, dict[str, float]]] = []
    model, batches = toy_model(), ToyBatches(5, cuts=2)
    objective = ToyObjective(model)
    result = train(
        "adapt", objective, batches, settings(steps=5, log_every=2), 1, lambda *line: seen.append(line)
    )
    _, each = trained(ToyBatches(5, cuts=2))
    assert [step for step, _ in seen] == [1, 2, 4]
    assert result.curve == [{"step": float(step), **line} for step, line in seen]
    losses = [line["loss"] for line in each]
    assert [line["loss"] for _, line in seen] == pytest.approx(
        [losses[0], losses[1], (losses[2] + losses[3]) / 2], rel=1e-6
    )
    for _, line in seen:
        assert line["one"] == pytest.approx(1.0) and line["half"] == pytest.approx(line["loss"] / 2)
        assert line["padding_waste"] == pytest.approx(1 / 7)
        assert line["tokens_per_second"] > 0 and 0 < line["peak_memory_gib"] < 100
        assert line["seconds_left"] > 0 and line["learning_rate"] == pytest.approx(1e-2)
        assert "model_flops_utilisation" not in line  # of GPUs alone
    assert result.tokens == 5 * 48 and result.padding_waste == pytest.approx(1 / 7)
    # Neither counts nor row numbers are the module's business.
    assert objective.seen[0] == ["factor", "ids", "parts", "spike", "total"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factors": {3: math.nan}}, r"adapt: the loss is not finite at step 4 of 6 \(batch 3, process 0, "
         r"micro-batch 1, rows 304, 305, 306, 307\); the update was not applied"),
        ({"factors": {3: math.inf}}, r"the loss is not finite at step 4 of 6 \(batch 3, process 0, micro-b"),
        ({"spikes": (3,)}, r"adapt: the gradient is not finite at step 4 of 6 \(batch 3\); the update"),
    ],
)  # fmt: skip
def test_a_loss_or_gradient_that_is_not_finite_is_never_applied(changes: dict, message: str) -> None:
    model = toy_model()
    batches = ToyBatches(6, cuts=2, **changes)
    with pytest.raises(TrainingError, match=message):
        train("adapt", ToyObjective(model), batches, settings(log_every=100), seed=1)
    good, _ = trained(ToyBatches(3, cuts=2))
    assert largest_difference(weights_of(model), good) == 0.0


def warnings_of(caplog: pytest.LogCaptureFixture, word: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if word in record.getMessage()]


def test_a_flat_loss_is_told_once_and_a_falling_one_never(caplog: pytest.LogCaptureFixture) -> None:
    steps = 2 * FLAT_LINES + 3
    with caplog.at_level(logging.WARNING, logger="llara_core"):
        trained(ToyBatches(steps, same=True), learning_rate=1e-3)
        assert not warnings_of(caplog, "flat")
        _, curve = trained(ToyBatches(steps, same=True), learning_rate=1e-12)
    (message,) = warnings_of(caplog, "flat")
    assert f"{curve[-1]['loss']:.4f}" in message and f"step {2 * FLAT_LINES}" in message


@pytest.mark.parametrize(("cosine", "expected"), [(0.99, 1), (0.5, 0)])
def test_a_collapse_is_told_once(caplog: pytest.LogCaptureFixture, cosine: float, expected: int) -> None:
    batches = ToyBatches(COLLAPSE_LINES + 2)
    with caplog.at_level(logging.WARNING, logger="llara_core"):
        result = train(
            "adapt", ToyObjective(toy_model(), cosine), batches, settings(steps=len(batches)), seed=1
        )
    assert result.curve[0]["mean_cosine"] == pytest.approx(cosine)
    messages = warnings_of(caplog, "collapsed")
    assert len(messages) == expected
    assert all(f"{cosine:.4f}" in message for message in messages)


class Embedding(ToyObjective):
    """Embeds its rows, so that different cuts of a step embed the same rows."""

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The share of the loss; half a vector of 1 beside each row's own mean."""
        vectors = self.model.get_input_embeddings()(batch["ids"]).detach().mean(dim=1)
        self.embeddings = functional.pad(vectors, (0, 1), value=0.5)
        return super().forward(batch)


def test_mean_cosine_does_not_depend_on_the_cut() -> None:
    found = [
        [
            line["mean_cosine"]
            for line in train(
                "adapt", Embedding(toy_model()), ToyBatches(6, cuts=cuts), settings(log_every=2), seed=1
            ).curve
        ]
        for cuts in (1, 2, 4)
    ]
    assert 0.1 < found[0][0] < 0.999
    assert found[1] == pytest.approx(found[0], abs=1e-6) and found[2] == pytest.approx(found[0], abs=1e-6)


def test_mixed_precision_computes_in_bfloat16_and_keeps_float32_weights_and_losses() -> None:
    seen: list[torch.dtype] = []
    model = toy_model()
    model.model.layers[0].mlp.register_forward_hook(lambda *call: seen.append(call[2].dtype))
    result = train(
        "adapt", ToyObjective(model), ToyBatches(3), settings(steps=3, mixed_precision="bf16"), seed=1
    )
    _, exact = trained(ToyBatches(3))
    assert set(seen) == {torch.bfloat16}
    assert {weights.dtype for weights in model.parameters()} == {torch.float32}
    for line, reference in zip(result.curve, exact, strict=True):
        assert line["loss"] != reference["loss"]
        assert line["loss"] == pytest.approx(reference["loss"], rel=1e-2)


def test_the_callers_random_state_is_left_alone() -> None:
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    train("adapt", ToyObjective(toy_model_without_seeding()), ToyBatches(1), settings(steps=1), seed=1)
    assert torch.equal(torch.rand(1), expected)


def toy_model_without_seeding():
    with torch.random.fork_rng(devices=[]):
        return toy_model()
