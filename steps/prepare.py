"""Prepare: the decoder that everything starts from, with its slot tokens."""

from __future__ import annotations

from typing import Annotated

from zenml import step
from zenml.artifacts.artifact_config import ArtifactConfig
from zenml.enums import ArtifactType

from llara_core.config import ModelSettings
from llara_core.model.prepare import prepare_base
from steps.caching import policy
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.stored.bundle import store_bundle
from steps.stored.collection import open_collection
from steps.workspace import new_folder


@step(cache_policy=policy(__file__), output_materializers=FolderMaterializer)
def prepare(
    collection: FolderArtifact, settings: ModelSettings, seed: int
) -> Annotated[FolderArtifact, ArtifactConfig(name="base_model", artifact_type=ArtifactType.MODEL)]:
    """The unadapted base bundle.

    Raises:
        ModelError: the folder or id holds no usable decoder.
    """
    return store_bundle(prepare_base(settings, open_collection(collection), new_folder("base"), seed))
