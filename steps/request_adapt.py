"""Ask for adaptation on several machines: the request is what the pods read and the result is made from."""

from __future__ import annotations

from typing import Annotated

from zenml import step

from llara_core.config import AdaptSettings, LaunchSettings
from llara_core.training.stage_request import StageRequest
from steps.caching import never
from steps.checkpoints import checkpoints_folder
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.node_training import place_request
from steps.stored.table import file_of
from steps.workspace import new_folder


@step(cache_policy=never(), output_materializers=FolderMaterializer)
def request_adapt(
    base: FolderArtifact,
    passages: FolderArtifact,
    settings: AdaptSettings,
    seed: int,
    launch: LaunchSettings,
    name: str,
) -> Annotated[FolderArtifact, "training_request"]:
    """The request, laid down on the volume that the pods mount.

    Never from the cache: what lies on the volume is not ZenML's to know.

    Raises:
        ConfigError: ``$LLARA_CHECKPOINTS`` is not set.
    """
    asked = StageRequest(
        "adapt",
        settings.model_dump(mode="json"),
        seed,
        base.path,
        {"rows": file_of(passages)},
        new_folder("unused"),
        checkpoints_folder("adapt"),
    )
    return place_request(asked, launch, name, {"start": base, "rows": passages})
