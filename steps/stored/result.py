"""Results of one system on one collection as artifacts."""

from __future__ import annotations

from llara_core.evaluation.mteb_json import FILE, mteb_json
from llara_core.evaluation.results import SystemResult
from steps.materializers import FolderArtifact
from steps.workspace import new_folder


def store_result(result: SystemResult) -> FolderArtifact:
    """Scores per query, everything found, the TREC run and MTEB's JSON, as one artifact."""
    # No time in it: the same result has the same bytes, and what is cached on it stays.
    folder = result.save(new_folder("result"), run=True, extra={FILE: mteb_json(result)})
    return FolderArtifact.of(folder, facts={"collection": result.collection, "system": result.name})


def open_result(artifact: FolderArtifact) -> SystemResult:
    """The result of an artifact."""
    return SystemResult.load(artifact.path)
