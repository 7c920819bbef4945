"""The steps before and after training on several machines, as plain functions on a volume of their own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from llara_core.config import AdaptSettings
from llara_core.errors import ConfigError, DataError
from llara_core.launch_settings import LaunchSettings
from llara_core.model.bundle import read_bundle
from llara_core.training import stage_adapt
from llara_core.training.launch import Place
from llara_core.training.node_request import NodeRequest, folder_of
from steps import node_training, tracking
from steps.collect_adapted import collect_adapted
from steps.materializers import FolderArtifact
from steps.request_adapt import request_adapt
from steps.stored.bundle import store_bundle
from steps.stored.table import store_table
from tests.training.two_processes import ADAPT, SEED, make_base, toy_collection

NAME = "adapt-0123456789abcdef"
SETTINGS = AdaptSettings.parse({**ADAPT, "steps": 2}, "adapt")


@pytest.fixture(autouse=True)
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLARA_LOCAL", str(tmp_path / "local"))
    monkeypatch.setenv("LLARA_CHECKPOINTS", str(tmp_path / "volume"))
    return tmp_path / "volume"


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the step tells ZenML and MLflow, neither of which is there."""
    found: dict[str, Any] = {"curve": []}
    monkeypatch.setattr(node_training, "get_step_context", lambda: SimpleNamespace(step_name="adapt"))
    monkeypatch.setattr(node_training, "log_metadata", found.update)
    monkeypatch.setattr(
        tracking, "log_metrics", lambda metrics, step: found["curve"].append((step, set(metrics)))
    )
    return found


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, FolderArtifact]:
    texts = list(toy_collection().passages)
    rows = pa.table({"text": texts, "next_text": [*texts[1:], ""]})
    return {"base": store_bundle(make_base(tmp_path / "base")), "passages": store_table(rows, "rows")}


def asked(inputs: dict[str, FolderArtifact], **launch: Any) -> FolderArtifact:
    found: FolderArtifact = request_adapt.entrypoint(
        **inputs, settings=SETTINGS, seed=SEED, launch=LaunchSettings(**launch), name=NAME
    )
    return found


def test_what_is_asked_for_is_trained_and_collected(
    inputs: dict[str, FolderArtifact], logged: dict[str, Any], volume: Path
) -> None:
    request = asked(inputs)
    laid = NodeRequest.read(folder_of(NAME))
    assert request.content_hash == laid.hash
    assert laid.facts["inputs"] == {
        "start": inputs["base"].content_hash, "rows": inputs["passages"].content_hash
    }  # fmt: skip
    laid.train(stage_adapt.run, Place())
    made: FolderArtifact = collect_adapted.entrypoint(request=request, name=NAME)
    assert [one.name for one in read_bundle(made.path).history] == ["prepare", "adapt"]
    assert made.content_hash == read_bundle(laid.result()).fingerprint
    assert [step for step, _ in logged["curve"]] == [1, 2]
    assert all("adapt/loss" in names for _, names in logged["curve"])
    assert logged["trained_by"]["hash"] == request.content_hash
    # The result stays for a run that is repeated; the copies of what it was made from go.
    assert {one.name for one in folder_of(NAME).iterdir()} == {"request.json", "result"}
    assert asked(inputs).content_hash == request.content_hash
    assert not (folder_of(NAME) / "inputs").exists()


def test_a_result_of_another_request_is_not_taken(
    inputs: dict[str, FolderArtifact], logged: dict[str, Any]
) -> None:
    request = asked(inputs)
    NodeRequest.read(folder_of(NAME)).train(stage_adapt.run, Place())
    other = asked(inputs, patience_minutes=5)  # another launch is another request
    assert other.content_hash != request.content_hash
    with pytest.raises(DataError, match="no result of this request"):
        collect_adapted.entrypoint(request=other, name=NAME)
    assert logged == {"curve": []}


def test_without_a_volume_nothing_is_asked_for(
    inputs: dict[str, FolderArtifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLARA_CHECKPOINTS")
    with pytest.raises(ConfigError, match=r"LLARA_CHECKPOINTS is not set.*ReadWriteMany"):
        asked(inputs, nodes=2)


def test_the_file_for_accelerate_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = LaunchSettings(nodes=2, accelerate="configs/accelerate/several_nodes.yaml")
    found = node_training.launch_of(settings)
    assert found.accelerate is not None
    assert Path(found.accelerate).is_file()
    assert node_training.launch_of(LaunchSettings()).accelerate is None
