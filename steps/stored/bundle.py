"""Model folders as artifacts."""

from __future__ import annotations

from pathlib import Path

from llara_core.model.bundle import read_bundle
from steps.materializers import FolderArtifact


def store_bundle(folder: Path) -> FolderArtifact:
    """The model folder as an artifact; its fingerprint is its hash, since equal vectors are what counts."""
    bundle = read_bundle(folder)
    stages = " → ".join(stage.name for stage in bundle.history)
    return FolderArtifact.of(folder, bundle.fingerprint, {"base_model": bundle.base_model, "stages": stages})
