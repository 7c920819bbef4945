"""Failures that are written down: what later steps see of them, and that no run takes one from the cache."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from zenml import pipeline, step
from zenml.client import Client
from zenml.exceptions import RunStoppedException

from llara_core.errors import DataError
from steps import recorded
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.recorded import failed, failure_of

SWITCH = Path("switch")  # relative to the test's folder: while it exists, the step works


@step(output_materializers=FolderMaterializer)
def fragile(number: int) -> FolderArtifact:
    def work() -> FolderArtifact:
        if not SWITCH.exists():
            raise DataError(f"no {SWITCH.name}")
        folder = Path("made") / str(number)
        folder.mkdir(parents=True)
        (folder / "file").write_text("content")
        return FolderArtifact.of(folder)

    return recorded.recorded("the switch", work, {"name": "switch"})


@pipeline
def one_step() -> None:
    fragile(number=1)


def run_once() -> tuple[FolderArtifact, str]:
    one_step()
    [run] = Client().list_pipeline_runs(pipeline="one_step", sort_by="desc:created", size=1).items
    found = run.steps["fragile"]
    return found.outputs["output"][0].load(), str(found.status)


def test_a_failure_is_a_result_once_and_tried_again_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZENML_CUSTOM_SOURCE_ROOT", str(Path(__file__).resolve().parents[2]))
    first, status = run_once()
    assert status == "completed"
    assert failure_of(first) == "the switch: no switch" and first.facts["name"] == "switch"
    again, status = run_once()
    assert status == "completed" and again.content_hash != first.content_hash
    SWITCH.touch()
    mended, status = run_once()
    assert status == "completed" and failure_of(mended) is None
    _, status = run_once()
    assert status == "cached"


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """``recorded`` outside of a run; gives what it would have told ZenML."""
    told: list[object] = []
    monkeypatch.setattr(recorded, "log_metadata", told.append)
    monkeypatch.setattr(recorded, "_never_again", lambda: told.append("not cached"))
    return told


def test_a_fault_is_told_with_its_kind_and_its_place_goes_to_the_log(
    outside: list[object], caplog: pytest.LogCaptureFixture
) -> None:
    def work() -> FolderArtifact:
        raise ZeroDivisionError("by nought")

    with caplog.at_level(logging.ERROR, "steps.recorded"):
        artifact = recorded.recorded("a on b", work, {"system": "a", "collection": "b"})
    assert failure_of(artifact) == "a on b: ZeroDivisionError: by nought"
    assert (artifact.facts["system"], artifact.facts["collection"]) == ("a", "b")
    assert "in work" in caplog.text  # the traceback
    assert outside == [{"failure": "ZeroDivisionError: by nought"}, "not cached"]
    assert json.loads((artifact.path / "failure.json").read_text())["failure"] == failure_of(artifact)


@pytest.mark.parametrize("stop", [RunStoppedException("stopped"), KeyboardInterrupt()])
def test_a_stopped_run_stays_stopped(outside: list[object], stop: BaseException) -> None:
    def work() -> FolderArtifact:
        raise stop

    with pytest.raises(type(stop)):
        recorded.recorded("a", work, {})
    assert outside == []


def test_no_two_failures_are_the_same(tmp_path: Path) -> None:
    assert failed("x", {}).content_hash != failed("x", {}).content_hash
