"""Leaks as artifacts: the report, the leak-free subsets, and what may be left out of training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from steps.materializers import FolderArtifact
from steps.stored.subsets import open_subsets, write_subsets
from steps.workspace import new_folder

if TYPE_CHECKING:  # who reads subsets needs nothing of the search, and shall not be cached on it
    from llara_core.data.leaks import Leaks

REPORT, DECISION = "leaks.json", "decision.json"


def store_leaks(found: Leaks, documents: Sequence[str]) -> FolderArtifact:
    """Everything found, as one artifact.

    Args:
        found: what was looked for.
        documents: ids of the corpus whose texts were taken for the text of adaptation.
    """
    folder = new_folder("leaks")
    folder.mkdir(parents=True)
    (folder / REPORT).write_text(json.dumps(found.report, sort_keys=True), encoding="utf-8")
    decision = {
        "action": found.action,
        "train_split": found.train_split,
        "drop_queries": found.drop_queries,
        "drop_judgements": found.drop_judgements,
        "drop_adaptation": found.drop_adaptation,
        "adaptation_documents": [documents[row] for row in found.drop_adaptation],
    }
    (folder / DECISION).write_text(json.dumps(decision), encoding="utf-8")
    write_subsets(found.subsets, folder)
    return FolderArtifact.of(folder)


def open_leaks_report(artifact: FolderArtifact) -> dict[str, Any]:
    """Counts and examples by kind."""
    report: dict[str, Any] = json.loads((artifact.path / REPORT).read_text(encoding="utf-8"))
    return report


def adaptation_drops(artifact: FolderArtifact) -> list[str]:
    """Ids of the documents that adaptation must not read; none unless the settings say drop."""
    decision = _decision(artifact)
    return list(decision["adaptation_documents"]) if decision["action"] == "drop" else []


def open_leaks(artifact: FolderArtifact) -> Leaks:
    """The leaks of an artifact."""
    from llara_core.data.leaks import Leaks

    decision = _decision(artifact)
    return Leaks(
        action=decision["action"],
        train_split=decision["train_split"],
        subsets=open_subsets(artifact),
        drop_queries=decision["drop_queries"],
        drop_judgements=[(query, document) for query, document in decision["drop_judgements"]],
        drop_adaptation=decision["drop_adaptation"],
        report=open_leaks_report(artifact),
    )


def _decision(artifact: FolderArtifact) -> dict[str, Any]:
    decision: dict[str, Any] = json.loads((artifact.path / DECISION).read_text(encoding="utf-8"))
    return decision
