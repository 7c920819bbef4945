"""What a Trainer saves and takes up again, part by part; test_resume.py kills whole runs."""

from __future__ import annotations

import errno
import json
import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, TrainingArguments

from llara_core.errors import TrainingError
from llara_core.training.checkpoints import Checkpoints
from llara_core.training.engine import train
from llara_core.training.resume import ResumableTrainer
from llara_core.training.training_state import (
    as_random_states,
    load_optimizer,
    optimizer_tensors,
    random_states,
    restore_random,
    trainable,
)
from llara_core.training_settings import OptimizerSettings

CPU = torch.device("cpu")


def draws() -> list[Any]:
    return [torch.rand(3).tolist(), random.gauss(0, 1), random.random(), np.random.normal(), np.random.rand()]


def test_all_generators_come_back() -> None:
    random.seed(1)
    np.random.seed(1)
    draws()  # leaves half a pair of normal numbers in Python's and in numpy's generator
    states = random_states(CPU)
    sent = as_random_states(json.loads(json.dumps({name: one.tolist() for name, one in states.items()})))
    expected = draws()
    draws()
    restore_random(sent)
    assert draws() == expected
    assert [one.dtype for one in sent.values()] == [one.dtype for one in states.values()]


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[1].bias.requires_grad_(False)
    return model


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> list[Tensor]:
    torch.manual_seed(seed)
    model(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return [values.clone() for values in model.parameters()]


def test_optimizer_goes_by_name_whatever_the_order_of_its_groups() -> None:
    model = small_model()
    weights = trainable(model)
    assert set(weights) == {"0.weight", "0.bias", "1.weight"}
    first = torch.optim.AdamW(list(weights.values()), lr=0.1, fused=True)
    stepped(model, first, 1)
    saved = {name: values.clone() for name, values in optimizer_tensors(first, weights).items()}
    start = {name: values.detach().clone() for name, values in weights.items()}
    expected = stepped(model, first, 2)

    other = small_model()
    with torch.no_grad():
        for name, values in trainable(other).items():
            values.copy_(start[name])
    second = torch.optim.AdamW(list(trainable(other).values())[::-1], lr=9.0, fused=True)
    load_optimizer(second, saved, trainable(other), rates=[0.1])
    for one, two in zip(expected, stepped(other, second, 2), strict=True):
        assert torch.equal(one, two)
    loaded = second.state[trainable(other)["0.bias"]]
    assert loaded["exp_avg"].data_ptr() != saved["exp_avg/0.bias"].data_ptr()  # not the file that may go


class Line(nn.Module):
    """A model of one weight; its loss explodes at will."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Weight()

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": (self.model.weight * batch["x"]).sum().square()}


class Weight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[2.0, -1.0]]))
        self.config = LlamaConfig()

    def get_input_embeddings(self) -> None:
        return None

    get_output_embeddings = get_input_embeddings


class Numbers:
    """Step k's batch is k + 1, or not finite from a step on; remembers which steps were asked for."""

    def __init__(self, steps: int, bad_from: int = 99) -> None:
        self.steps, self.bad_from = steps, bad_from
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.steps

    def part(self, step: int, rank: int, world: int) -> list[dict[str, Tensor]]:
        self.asked.append(step)
        x = torch.tensor([[1.0 + step, 0.5]]) * (float("inf") if step >= self.bad_from else 1.0)
        return [{"x": x, "counts": torch.tensor([2, 2])}]


def settings(**changes: Any) -> OptimizerSettings:
    return OptimizerSettings(**{"steps": 8, "checkpoint_every": 2, "log_every": 3, **changes})


def run(folder: Path, batches: Numbers, **changes: Any) -> tuple[Line, Any, list[int]]:
    module, logged = Line(), []
    checkpoints = Checkpoints(folder, {"stage": "adapt"}, keep=9)
    result = train(
        "adapt", module, batches, settings(**changes), 1, lambda step, _: logged.append(step), checkpoints
    )
    return module, result, logged


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"not finite at step 6 of 8.*checkpoint is .*step-000004"):
        run(tmp_path, Numbers(8, bad_from=5))
    healthy = Numbers(8)
    module, result, logged = run(tmp_path, healthy)
    assert min(healthy.asked) == 4  # nothing that was trained on is computed again
    whole, expected, _ = run(tmp_path / "whole", Numbers(8))
    assert torch.equal(module.model.weight, whole.model.weight)
    assert logged == [1, 3, 6]  # those of the earlier run too: a new log is whole
    assert [line["loss"] for line in result.curve] == [line["loss"] for line in expected.curve]
    assert result.tokens == expected.tokens


def test_intervals_may_change_between_runs(tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        run(tmp_path, Numbers(8, bad_from=5))
    _, _, logged = run(tmp_path, Numbers(8), log_every=1, checkpoint_every=3)
    assert logged == [1, 3, 5, 6, 7, 8]
    assert sorted(path.name for path in tmp_path.glob("run-*/step-*")) == [
        "step-000002", "step-000004", "step-000006",
    ]  # fmt: skip


def test_no_checkpoints_when_none_are_wanted(tmp_path: Path) -> None:
    run(tmp_path / "c", Numbers(8), checkpoint_every=None)
    assert not (tmp_path / "c").exists()


def test_weights_that_are_not_finite_are_never_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A finite gradient may still spoil a weight; the step that meets it stops the run."""
    step = torch.optim.AdamW.step

    def spoil(self: Any, *arguments: Any, **options: Any) -> Any:
        done = step(self, *arguments, **options)
        values = self.param_groups[0]["params"][0]
        if int(self.state[values]["step"]) == 4:
            values.data.fill_(float("nan"))
        return done

    monkeypatch.setattr(torch.optim.AdamW, "step", spoil)
    with pytest.raises(TrainingError, match=r"step 5 of 8.*step-000002"):
        run(tmp_path, Numbers(8))
    assert "no checkpoint of step 4: model.weight is not finite" in caplog.text


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        run(tmp_path, Numbers(8, bad_from=5))
    module = Line()
    module.model.weight = nn.Parameter(torch.zeros(1, 3))
    checkpoints = Checkpoints(tmp_path, {"stage": "adapt"})
    with pytest.raises(TrainingError, match=r"does not fit the model: 1 parameters differ, .*model\.weight"):
        train("adapt", module, Numbers(8), settings(), 1, None, checkpoints)


class Sharded(ResumableTrainer):
    """Stands for FSDP: its files are written by the library, into the folder that we seal."""

    error: Exception | None = None

    def _holds_shards(self) -> bool:
        return True

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        (Path(output_dir) / "shards").mkdir()
        (Path(output_dir) / "shards" / "0.distcp").write_bytes(b"weights")
        if self.error is not None:
            raise self.error

    def progress_state(self) -> dict[str, Any]:
        return {"curve": [], "tokens": 3}


def test_shards_are_sealed_like_everything_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    checkpoints = Checkpoints(tmp_path / "c", {"stage": "adapt"})
    checkpoints.open()
    arguments = TrainingArguments(output_dir=str(tmp_path / "out"), max_steps=9, report_to=[], use_cpu=True)
    trainer = Sharded(stage="adapt", checkpoints=checkpoints, model=Line(), args=arguments)
    trainer.state.global_step = 2
    trainer._save_checkpoint(None, None)
    found = checkpoints.latest()
    assert found is not None and found.step == 2 and trainer.last_checkpoint == found.folder
    assert (found.folder / "shards" / "0.distcp").read_bytes() == b"weights"
    assert found.values("state")["progress"] == [{"curve": [], "tokens": 3}]

    trainer.state.global_step, trainer.error = 4, OSError(errno.ENOSPC, "No space left on device")
    trainer._save_checkpoint(None, None)
    assert "no checkpoint of step 4" in caplog.text and "No space left" in caplog.text
    assert not checkpoints.part(4).exists() and trainer.last_checkpoint == found.folder
    (found.folder / "shards" / "0.distcp").write_bytes(b"weighty")
    assert checkpoints.latest() is None
