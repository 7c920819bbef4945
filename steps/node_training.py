"""What the steps before and after training on several machines share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from zenml import get_step_context, log_metadata

from llara_core.launch_settings import LaunchSettings
from llara_core.model.bundle import read_bundle
from llara_core.settings import configuration
from llara_core.training.node_request import NodeRequest, folder_of
from llara_core.training.stage_request import StageRequest
from steps import tracking
from steps.caching import ROOT
from steps.checkpoints import discard_checkpoints
from steps.materializers import FolderArtifact
from steps.stored.bundle import store_bundle
from steps.stored.collection import same_files
from steps.workspace import new_folder

_FILE = "request.json"


def launch_of(settings: LaunchSettings) -> LaunchSettings:
    """The settings with the file for accelerate as a path that exists on this machine."""
    if settings.accelerate is None:
        return settings
    return settings.model_copy(update={"accelerate": str(configuration(settings.accelerate, ROOT))})


def place_request(
    asked: StageRequest, launch: LaunchSettings, name: str, inputs: Mapping[str, FolderArtifact]
) -> FolderArtifact:
    """Lay a request down for the pods; as an artifact it is what the result is made from.

    Args:
        asked: the stage.
        launch: machines and processes.
        name: of the request.
        inputs: the artifacts that the request's inputs belong to.
    """
    hashes = {key: artifact.content_hash for key, artifact in inputs.items()}
    request = NodeRequest.write(folder_of(name), asked, launch_of(launch), hashes)
    folder = new_folder("request")
    folder.mkdir(parents=True)
    (folder / _FILE).write_text(json.dumps(dict(request.facts), indent=1, sort_keys=True), encoding="utf-8")
    return FolderArtifact.of(folder, request.hash, {"request": request.hash, "inputs": hashes})


def collect(request: FolderArtifact, name: str) -> FolderArtifact:
    """The bundle that the pods have made, verified, as an artifact; its loss curve goes to MLflow.

    Args:
        request: what was asked for.
        name: of the request.

    Raises:
        DataError: there is no result of this request, or it is spoilt.
    """
    asked: dict[str, Any] = json.loads((request.path / _FILE).read_text(encoding="utf-8"))
    stage = get_step_context().step_name
    discard_checkpoints(but=stage)
    found = NodeRequest(folder_of(name), asked)
    bundle = same_files(found.result(), stage)
    on_log = tracking.curve_logger(stage)
    for line in read_bundle(bundle).history[-1].curve:
        on_log(int(line["step"]), {key: value for key, value in line.items() if key != "step"})
    log_metadata({"trained_by": {key: asked[key] for key in ("hash", "launch", "inputs")}})
    stored = store_bundle(bundle)
    found.drop_inputs()
    return stored
