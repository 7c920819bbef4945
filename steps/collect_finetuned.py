"""Collect the model that several machines have fine-tuned."""

from __future__ import annotations

from typing import Annotated

from zenml import step
from zenml.artifacts.artifact_config import ArtifactConfig
from zenml.enums import ArtifactType

from llara_core.training import stage_finetune
from steps.caching import policy
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.node_training import collect

CODE = stage_finetune.__name__  # what made the model: the cache goes by what this file imports


@step(cache_policy=policy(__file__), output_materializers=FolderMaterializer)
def collect_finetuned(
    request: FolderArtifact, name: str
) -> Annotated[FolderArtifact, ArtifactConfig(name="finetuned_model", artifact_type=ArtifactType.MODEL)]:
    """The fine-tuned bundle, verified against its seal; in the pipeline this step is ``finetune``.

    Raises:
        DataError: there is no result of this request, or it is spoilt.
    """
    return collect(request, name)
