"""Adapt: the language model learns to say a text, and what follows it, with one vector (EBAE, EBAR)."""

from __future__ import annotations

from typing import Annotated

from zenml import step
from zenml.artifacts.artifact_config import ArtifactConfig
from zenml.enums import ArtifactType

from llara_core.config import AdaptSettings
from llara_core.training.adapt import adapt as train
from steps import tracking
from steps.caching import policy
from steps.checkpoints import checkpoints_folder, discard_checkpoints
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.stored.bundle import store_bundle
from steps.stored.table import open_table
from steps.workspace import new_folder


@step(cache_policy=policy(__file__), output_materializers=FolderMaterializer)
def adapt(
    base: FolderArtifact, passages: FolderArtifact, settings: AdaptSettings, seed: int
) -> Annotated[FolderArtifact, ArtifactConfig(name="adapted_model", artifact_type=ArtifactType.MODEL)]:
    """The adapted bundle; the loss curve goes to MLflow as ``adapt/loss``.

    Cut off and run again with the same inputs, it goes on from its last checkpoint.

    Raises:
        TrainingError: the loss is not finite, or there is nothing to train on.
    """
    discard_checkpoints(but="adapt")
    folder = train(
        base.path,
        open_table(passages),
        settings,
        new_folder("adapted"),
        seed,
        tracking.curve_logger("adapt"),
        checkpoints=checkpoints_folder("adapt"),
    )
    return store_bundle(folder)
