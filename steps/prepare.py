"""Prepare: the decoder that everything starts from, with its slot tokens."""

from __future__ import annotations

from typing import Annotated

from zenml import step
from zenml.artifacts.artifact_config import ArtifactConfig
from zenml.enums import ArtifactType

from llara_core.config import ModelSettings
from llara_core.model.prepare import prepare_base
from steps import registry
from steps.caching import policy
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.stored.bundle import store_bundle
from steps.stored.collection import open_collection
from steps.workspace import new_folder


@step(cache_policy=policy(__file__), output_materializers=FolderMaterializer)
def prepare(
    collection: FolderArtifact, settings: ModelSettings, seed: int, reference: str | None = None
) -> Annotated[FolderArtifact, ArtifactConfig(name="base_model", artifact_type=ArtifactType.MODEL)]:
    """The base bundle, which training starts from.

    Args:
        collection: its text trains the tokenizer of a model from scratch.
        settings: which model.
        seed: of random weights.
        reference: what ``resolve`` gave, where ``settings.base`` refers to the model registry.

    Raises:
        ModelError: the folder, id or version holds no usable decoder.
        ConfigError: the template is not the one that the base was trained with.
    """
    origin = None
    if reference is not None:
        origin = reference.partition("#")[0]
        name, _, number = origin.removeprefix(registry.SCHEME).rpartition("/")
        settings = settings.model_copy(update={"base": str(registry.bundle_of(name, number))})
    folder = prepare_base(settings, open_collection(collection), new_folder("base"), seed, origin)
    return store_bundle(folder)
