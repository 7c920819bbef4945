"""Duplicates as artifacts: what stands for each document, and the report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from steps.materializers import FolderArtifact
from steps.workspace import new_folder

if TYPE_CHECKING:  # who reads the report needs nothing of the search, and shall not be cached on it
    from llara_core.data.duplicates import Duplicates

_ARRAYS, REPORT = ("clusters", "exact", "kept", "representatives"), "duplicates.json"


def store_duplicates(found: Duplicates) -> FolderArtifact:
    """Clusters and report as one artifact."""
    folder = new_folder("duplicates")
    folder.mkdir(parents=True)
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", getattr(found, name), allow_pickle=False)
    (folder / REPORT).write_text(json.dumps(found.report, sort_keys=True), encoding="utf-8")
    return FolderArtifact.of(folder)


def open_duplicates_report(artifact: FolderArtifact) -> dict[str, Any]:
    """Counts, sizes and examples."""
    report: dict[str, Any] = json.loads((artifact.path / REPORT).read_text(encoding="utf-8"))
    return report


def open_duplicates(artifact: FolderArtifact) -> Duplicates:
    """The duplicates of an artifact, memory-mapped."""
    from llara_core.data.duplicates import Duplicates

    arrays = {
        name: np.load(artifact.path / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS
    }
    return Duplicates(**arrays, report=open_duplicates_report(artifact))
