"""What an evaluation of several systems gave, as an artifact: the summary, the record and its page."""

from __future__ import annotations

import json
from typing import Any

from steps.materializers import FolderArtifact

SUMMARY, RECORD, PAGE = "summary.json", "side_by_side.json", "side_by_side.html"


def open_summary(artifact: FolderArtifact) -> dict[str, Any]:
    """Scores by collection and system, what was compared, failures and notes."""
    summary: dict[str, Any] = json.loads((artifact.path / SUMMARY).read_text(encoding="utf-8"))
    return summary


def open_page(artifact: FolderArtifact) -> str | None:
    """The page, or None where there were not two systems to compare."""
    return (artifact.path / PAGE).read_text(encoding="utf-8") if PAGE in artifact.files else None


def open_record(artifact: FolderArtifact) -> dict[str, Any] | None:
    """The record that ``compare_systems`` gave, or None where there were not two systems to compare."""
    if RECORD not in artifact.files:
        return None
    record: dict[str, Any] = json.loads((artifact.path / RECORD).read_text(encoding="utf-8"))
    return record
