"""Fine-tune: contrastive learning with in-batch and hard negatives."""

from __future__ import annotations

from typing import Annotated

from zenml import get_step_context, step
from zenml.artifacts.artifact_config import ArtifactConfig
from zenml.enums import ArtifactType

from llara_core.config import FinetuneSettings, LaunchSettings
from llara_core.training.launch import launch as launched
from llara_core.training.stage_finetune import run
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
def finetune(
    start: FolderArtifact,
    collection: FolderArtifact,
    negatives: FolderArtifact,
    settings: FinetuneSettings,
    seed: int,
    launch: LaunchSettings,
) -> Annotated[FolderArtifact, ArtifactConfig(name="finetuned_model", artifact_type=ArtifactType.MODEL)]:
    """The fine-tuned bundle; the loss curve goes to MLflow as ``<step name>/loss``.

    Cut off and run again with the same inputs, it goes on from its last checkpoint.
    The pipeline uses it twice with the same budget: from the adapted and from the unadapted model. It trains
    in as many processes of this machine as ``launch`` says.

    Raises:
        ConfigError: more processes than GPUs.
        TrainingError: the loss is not finite, there is nothing to train on, or a process was killed.
    """
    stage = get_step_context().step_name
    discard_checkpoints(but=stage)
    asked = StageRequest(
        "finetune",
        settings.model_dump(mode="json"),
        seed,
        start.path,
        {"collection": collection.path, "negatives": file_of(negatives)},
        new_folder(stage),
        checkpoints_folder(stage),
    )
    return store_bundle(launched(asked, run, launch_of(launch), tracking.curve_logger(stage)))
