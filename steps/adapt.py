"""Adapt: the language model learns to say a text, and what follows it, with one vector (EBAE, EBAR)."""

from __future__ import annotations

from typing import Annotated

from zenml import step
from zenml.artifacts.artifact_config import ArtifactConfig
from zenml.enums import ArtifactType

from llara_core.config import AdaptSettings, LaunchSettings
from llara_core.training.launch import launch as launched
from llara_core.training.stage_adapt import run
from llara_core.training.stage_request import StageRequest
from steps import tracking
from steps.caching import policy
from steps.checkpoints import checkpoints_folder, discard_checkpoints
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.node_training import launch_of
from steps.stored.bundle import store_bundle
from steps.stored.table import file_of
from steps.workspace import new_folder


@step(cache_policy=policy(__file__, "configs/accelerate"), output_materializers=FolderMaterializer)
def adapt(
    base: FolderArtifact,
    passages: FolderArtifact,
    settings: AdaptSettings,
    seed: int,
    launch: LaunchSettings,
) -> Annotated[FolderArtifact, ArtifactConfig(name="adapted_model", artifact_type=ArtifactType.MODEL)]:
    """The adapted bundle; the loss curve goes to MLflow as ``adapt/loss``.

    Cut off and run again with the same inputs, it goes on from its last checkpoint. It trains in as many
    processes of this machine as ``launch`` says.

    Raises:
        ConfigError: more processes than GPUs.
        TrainingError: the loss is not finite, there is nothing to train on, or a process was killed.
    """
    discard_checkpoints(but="adapt")
    asked = StageRequest(
        "adapt",
        settings.model_dump(mode="json"),
        seed,
        base.path,
        {"rows": file_of(passages)},
        new_folder("adapted"),
        checkpoints_folder("adapt"),
    )
    return store_bundle(launched(asked, run, launch_of(launch), tracking.curve_logger("adapt")))
