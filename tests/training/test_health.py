"""Warnings from log lines alone, and memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from llara_core.training.health import (
    COLLAPSE_COSINE,
    COLLAPSE_LINES,
    FLAT_LINES,
    HealthWatch,
    MeanCosine,
    not_finite,
    peak_memory,
)


def observe_all(watch: HealthWatch, losses, rates=None, cosines=None) -> list[str]:
    messages: list[str] = []
    for number, loss in enumerate(losses):
        line = {"loss": float(loss), "learning_rate": 1.0 if rates is None else float(rates[number])}
        if cosines is not None:
            line["mean_cosine"] = cosines[number]
        messages += watch.observe(number + 1, line)
    return messages


def test_flat_is_told_once_as_soon_as_two_windows_are_full() -> None:
    watch = HealthWatch("finetune")
    assert observe_all(watch, [2.0] * (2 * FLAT_LINES - 1)) == []
    (message,) = observe_all(watch, [2.0])
    assert "finetune: the loss is flat: 2.0000" in message and "finetune.learning_rate" in message
    assert observe_all(watch, [2.0] * 30) == []


def test_a_rising_loss_is_flat_too_and_a_noisy_falling_one_is_not() -> None:
    assert observe_all(HealthWatch("adapt"), np.linspace(2.0, 3.0, 40))
    noise = np.random.default_rng(0).normal(0, 0.05, 200)
    assert not observe_all(HealthWatch("adapt"), np.linspace(6.0, 2.0, 200) + noise)


def test_the_end_of_a_schedule_is_no_fault() -> None:
    rates = [1.0] * 20 + [0.1] * 40
    losses = [*np.linspace(3.0, 1.0, 20), *[1.0] * 40]
    assert not observe_all(HealthWatch("adapt"), losses, rates)
    assert observe_all(HealthWatch("adapt"), losses)  # at the full rate it is one


def test_collapse_needs_several_lines_in_a_row() -> None:
    falling = np.linspace(3.0, 1.0, 40)
    high, low = COLLAPSE_COSINE + 0.01, COLLAPSE_COSINE - 0.1
    interrupted = ([high] * (COLLAPSE_LINES - 1) + [low]) * 8
    assert not observe_all(HealthWatch("adapt"), falling, cosines=interrupted)
    (message,) = observe_all(HealthWatch("adapt"), falling, cosines=[high] * 40)
    assert f"{high:.4f} at step {COLLAPSE_LINES}" in message


def test_state_goes_on_where_it_was() -> None:
    one, other = HealthWatch("adapt"), HealthWatch("adapt")
    observe_all(one, [2.0] * (2 * FLAT_LINES - 1))
    other.restore(one.state())
    assert observe_all(other, [2.0]) == observe_all(one, [2.0]) != []
    third = HealthWatch("adapt")
    third.restore(one.state())
    assert observe_all(third, [2.0] * 50) == []  # told already


def test_mean_cosine_of_a_step_by_hand() -> None:
    vectors = torch.tensor([[2.0, 0.0], [0.0, 5.0], [3.0, 4.0]])  # cosines 0, 0.6, 0.8
    for cuts in ([3], [1, 2], [2, 0, 1]):
        cosine = MeanCosine()
        for part in torch.split(vectors, cuts):
            cosine.add(part)
        found = cosine.end_step()
        assert float(found["cosine_pairs"]) == 6.0
        assert float(found["cosine_sum"]) == pytest.approx(2 * (0.0 + 0.6 + 0.8), abs=1e-6)
        assert cosine.end_step() == {}  # the next step starts anew


def test_messages_say_what_is_kept() -> None:
    found = str(not_finite("adapt", 4, 9, "loss", ", process 0", None))
    assert found.startswith("adapt: the loss is not finite at step 4 of 9 (batch 3, process 0)")
    assert found.endswith("Nothing was saved")
    kept = str(not_finite("adapt", 4, 9, "loss", "", Path("here") / "step-000003"))
    assert kept.endswith(f"The last good checkpoint is {Path('here') / 'step-000003'}")


def test_peak_memory_is_the_most_that_the_system_saw() -> None:
    block = np.ones(20_000_000)  # 160 MB
    resource = pytest.importorskip("resource")  # not on Windows
    seen = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert peak_memory() >= block.nbytes
    assert peak_memory() == pytest.approx(seen, rel=0.02)
