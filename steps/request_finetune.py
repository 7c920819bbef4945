"""Ask for fine-tuning on several machines: the request is what the pods read and the result is made from."""

from __future__ import annotations

from typing import Annotated

from zenml import step

from llara_core.config import FinetuneSettings, LaunchSettings
from llara_core.training.stage_request import StageRequest
from steps.caching import never
from steps.checkpoints import checkpoints_folder
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.node_training import place_request
from steps.stored.table import file_of
from steps.workspace import new_folder


@step(cache_policy=never(), output_materializers=FolderMaterializer)
def request_finetune(
    start: FolderArtifact,
    collection: FolderArtifact,
    negatives: FolderArtifact,
    settings: FinetuneSettings,
    seed: int,
    launch: LaunchSettings,
    name: str,
) -> Annotated[FolderArtifact, "training_request"]:
    """The request, laid down on the volume that the pods mount; never from the cache, as ``request_adapt``.

    Raises:
        ConfigError: ``$LLARA_CHECKPOINTS`` is not set.
    """
    asked = StageRequest(
        "finetune",
        settings.model_dump(mode="json"),
        seed,
        start.path,
        {"collection": collection.path, "negatives": file_of(negatives)},
        new_folder("unused"),
        checkpoints_folder(name),
    )
    inputs = {"start": start, "collection": collection, "negatives": negatives}
    return place_request(asked, launch, name, inputs)
