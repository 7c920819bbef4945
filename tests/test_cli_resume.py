"""``llara adapt`` and ``llara finetune`` go on after an interruption by themselves, or start over if told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llara_core.cli.app import run
from llara_core.model.bundle import read_bundle
from llara_core.training.trainer import StageTrainer


@contextmanager
def interrupted_at(step: int) -> Iterator[None]:
    """Ctrl-C when the gradient of a step is there."""
    original = StageTrainer.training_step

    def training_step(self: StageTrainer, *arguments: Any, **options: Any) -> Any:
        loss = original(self, *arguments, **options)
        if self.state.global_step + 1 == step:
            raise KeyboardInterrupt
        return loss

    StageTrainer.training_step = training_step
    try:
        yield
    finally:
        StageTrainer.training_step = original


def command(work: Path, stage: str, output: Path, *more: str) -> list[str]:
    shared = ["--data", f"{work}/tiny", "-c", f"{work}/c.yaml", "-o", str(output)]
    negatives = ["--negatives", f"{work}/negatives.jsonl"] if stage == "finetune" else []
    return [stage, *shared, *negatives, "--set", f"{stage}.checkpoint_every=1", *more]


def fingerprint(folder: Path) -> str:
    return read_bundle(folder).fingerprint


@pytest.mark.parametrize("stage", ["adapt", "finetune"])
def test_the_same_command_goes_on(
    work: Path, tmp_path: Path, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without ``--base`` the base bundle is made anew, and is the same."""
    again = command(work, stage, tmp_path / "out")
    with interrupted_at(3):
        assert run(again) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.checkpoints"]
    capsys.readouterr()
    # What a kill would have left, where Ctrl-C could still clean up.
    (tmp_path / ".out.base.abcdefgh" / "base").mkdir(parents=True)
    (tmp_path / ".out.0123abcd.part").mkdir()
    assert run(again) == 0
    assert f"{stage}: resuming at step 2 of 3" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]  # nothing to go on from any more
    assert run(command(work, stage, tmp_path / "whole")) == 0
    assert fingerprint(tmp_path / "out") == fingerprint(tmp_path / "whole")


def test_other_settings_start_over_and_so_does_fresh(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with interrupted_at(3):
        assert run(command(work, "adapt", tmp_path / "out")) == 1
    with interrupted_at(1):
        assert run(command(work, "adapt", tmp_path / "out", "--seed", "6")) == 1
    said = capsys.readouterr().err
    assert "of another run and are not used (" in said and "seed: now 6, then 5" in said
    assert len(list((tmp_path / "out.checkpoints").iterdir())) == 1  # what is of no use is not kept
    assert run(command(work, "adapt", tmp_path / "out", "--fresh")) == 0
    said = capsys.readouterr().err
    assert "starting over: the checkpoints of 1 runs" in said and "resuming" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_an_interruption_before_the_first_checkpoint_leaves_nothing(work: Path, tmp_path: Path) -> None:
    with interrupted_at(1):
        assert run(command(work, "adapt", tmp_path / "out")) == 1
    assert list(tmp_path.iterdir()) == []
