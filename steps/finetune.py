"""Fine-tune: contrastive learning with in-batch and hard negatives."""

from __future__ import annotations

from typing import Annotated

from zenml import get_step_context, step
from zenml.artifacts.artifact_config import ArtifactConfig
from zenml.enums import ArtifactType

from llara_core.config import FinetuneSettings
from llara_core.training.finetune import finetune as train
from steps import tracking
from steps.caching import policy
from steps.checkpoints import checkpoints_folder, discard_checkpoints
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.stored.bundle import store_bundle
from steps.stored.collection import open_collection
from steps.stored.table import open_table
from steps.workspace import new_folder


@step(cache_policy=policy(__file__), output_materializers=FolderMaterializer)
def finetune(
    start: FolderArtifact,
    collection: FolderArtifact,
    negatives: FolderArtifact,
    settings: FinetuneSettings,
    seed: int,
) -> Annotated[FolderArtifact, ArtifactConfig(name="finetuned_model", artifact_type=ArtifactType.MODEL)]:
    """The fine-tuned bundle; the loss curve goes to MLflow as ``<step name>/loss``.

    Cut off and run again with the same inputs, it goes on from its last checkpoint.
    The pipeline uses it twice with the same budget: from the adapted and from the unadapted model.

    Raises:
        TrainingError: the loss is not finite, or there is nothing to train on.
    """
    stage = get_step_context().step_name
    discard_checkpoints(but=stage)
    folder = train(
        start.path,
        open_collection(collection),
        open_table(negatives),
        settings,
        new_folder(stage),
        seed,
        tracking.curve_logger(stage),
        checkpoints=checkpoints_folder(stage),
    )
    return store_bundle(folder)
