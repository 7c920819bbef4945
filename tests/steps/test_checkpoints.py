"""Where steps keep checkpoints, and which of them a later step removes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from llara_core.training.checkpoints import Checkpoints
from steps.checkpoints import checkpoints_folder, discard_checkpoints


def test_a_volume_goes_before_the_local_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLARA_LOCAL", str(tmp_path / "local"))
    monkeypatch.delenv("LLARA_CHECKPOINTS", raising=False)
    assert checkpoints_folder("adapt") == tmp_path / "local" / "checkpoints" / "adapt"
    monkeypatch.setenv("LLARA_CHECKPOINTS", str(tmp_path / "volume"))
    assert checkpoints_folder("adapt") == tmp_path / "volume" / "adapt"
    monkeypatch.delenv("LLARA_CHECKPOINTS")
    monkeypatch.delenv("LLARA_LOCAL")
    assert checkpoints_folder("adapt").is_relative_to(tempfile.gettempdir())


def test_a_later_step_removes_what_is_of_no_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A step that is tried again because its result could not be stored still finds its own."""
    monkeypatch.setenv("LLARA_CHECKPOINTS", str(tmp_path))
    runs = {}
    for step in ("adapt", "finetune", "finetune_without_adaptation"):
        runs[step] = Checkpoints(checkpoints_folder(step), {"stage": step})
        runs[step].open()
        assert runs[step].save(1, lambda folder: None)
    runs["adapt"].finish()
    runs["finetune"].finish()
    discard_checkpoints(but="finetune")
    assert not runs["adapt"].folder.exists()
    assert runs["finetune"].latest() is not None
    discard_checkpoints()
    assert [path.name for path in tmp_path.iterdir()] == ["finetune_without_adaptation"]
    assert runs["finetune_without_adaptation"].latest() is not None
