"""Evaluations as artifacts: the comparison and, below ``systems/``, every system's own results."""

from __future__ import annotations

from collections.abc import Sequence

from llara_core.evaluation.comparison import Comparison
from llara_core.evaluation.mteb_json import FILE, mteb_json
from llara_core.evaluation.results import SystemResult
from steps.materializers import FolderArtifact
from steps.workspace import new_folder

COMPARISON = "comparison.json"


def store_comparison(comparison: Comparison, results: Sequence[SystemResult]) -> FolderArtifact:
    """The comparison and the results it was made of, as one artifact."""
    folder = new_folder("evaluation")
    for result in results:
        result.save(folder / "systems" / result.name, run=True, extra={FILE: mteb_json(result)})
    comparison.save(folder / COMPARISON)
    return FolderArtifact.of(
        folder, facts={"ndcg_at_10": {one.name: one.means["ndcg_at_10"] for one in results}}
    )


def open_comparison(artifact: FolderArtifact) -> Comparison:
    """The comparison of an artifact."""
    return Comparison.load(artifact.path / COMPARISON)
