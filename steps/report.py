"""Report: the comparison as one self-contained HTML page."""

from __future__ import annotations

import json
from typing import Annotated, Any

from zenml import get_step_context, step
from zenml.types import HTMLString

from llara_core.environment import describe
from llara_core.evaluation.report import write_report
from steps import tracking
from steps.caching import policy
from steps.materializers import FolderArtifact
from steps.stored.comparison import open_comparison
from steps.workspace import REPORT_PAGE, new_folder, publish_report


@step(cache_policy=policy(__file__, "llara_core/evaluation/templates"))
def report(
    comparison: FolderArtifact, configuration: dict[str, Any], promotion: dict[str, Any] | None = None
) -> Annotated[HTMLString, "report"]:
    """The page; also an artifact of the MLflow run, and ``.local/reports/<collection>.html``.

    Args:
        comparison: how the systems were judged.
        configuration: all settings of the run, shown at the foot of the page.
        promotion: what ``promote`` gave; its checks are a section of the page.
    """
    facts = {
        "seed": configuration.get("seed"),
        "durations": _durations(),
        "settings": configuration,
        **describe(),
    }
    judged = open_comparison(comparison)
    path = write_report(judged, new_folder("report") / REPORT_PAGE, facts, promotion)
    page = path.read_text(encoding="utf-8")
    path.unlink()
    path.parent.rmdir()
    tracking.log_page(page, "report.html")
    publish_report(page, judged.collection["name"], json.dumps(judged.to_dict()))
    return HTMLString(page)


def _durations() -> dict[str, float]:
    """Seconds each finished step of this run took; of a cached one, when it ran."""
    run = get_step_context().pipeline_run
    return {
        name: round((one.end_time - one.start_time).total_seconds(), 1)
        for name, one in run.steps.items()
        if one.start_time and one.end_time
    }
