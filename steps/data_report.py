"""Data report: one page about what was ingested, what was put aside, what repeats and what leaks."""

from __future__ import annotations

from typing import Annotated, Any

from zenml import step
from zenml.types import HTMLString

from llara_core.data.profile import drift
from llara_core.data.quarantine import open_quarantine
from llara_core.evaluation.data_page import render_data_page
from steps.caching import policy
from steps.data_pages import publish
from steps.materializers import FolderArtifact
from steps.stored.duplicates import open_duplicates_report
from steps.stored.ingested import open_counts, open_profile
from steps.stored.leaks import open_leaks_report
from steps.workspace import DATA_REPORT_PAGE


@step(cache_policy=policy(__file__, "llara_core/evaluation/templates"))
def data_report(
    ingested: FolderArtifact, duplicates: FolderArtifact, leaks: FolderArtifact, previous: dict[str, Any]
) -> Annotated[HTMLString, "data_report"]:
    """The page; also an artifact of the MLflow run, and ``.local/reports/data_report.html``.

    It is made before the gates are asked, so that it is there when one of them says stop.

    Args:
        ingested: what ``ingest`` gave.
        duplicates: of its documents.
        leaks: of its evaluation into its training.
        previous: profile of the version that was accepted before; empty where there is none.
    """
    profile = open_profile(ingested)
    facts: dict[str, Any] = {
        "profile": profile,
        "counts": open_counts(ingested),
        "quarantine": open_quarantine(ingested.path),
        "duplicates": open_duplicates_report(duplicates),
        "leaks": open_leaks_report(leaks),
        "drift": drift(previous, profile) if previous else None,
    }
    page = render_data_page(facts)
    publish(page, "data_report", "data_report.html", DATA_REPORT_PAGE)
    return HTMLString(page)
