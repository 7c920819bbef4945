"""Audit: what was mined, as a page that a person can judge it by."""

from __future__ import annotations

from typing import Annotated

from zenml import get_step_context, step
from zenml.types import HTMLString

from llara_core.evaluation.audit_page import write_audit_page
from steps import tracking
from steps.caching import policy
from steps.materializers import FolderArtifact
from steps.stored.negatives import open_audit
from steps.workspace import audit_page_of, new_folder, publish_page


@step(cache_policy=policy(__file__, "llara_core/evaluation/templates"))
def audit(negatives: FolderArtifact) -> Annotated[HTMLString, "mining_audit"]:
    """The page; also an artifact of the MLflow run, and ``.local/reports/mining_audit.html``.

    A step of its own, so that a change of the page mines nothing again.

    Args:
        negatives: of one round of mining, with the audit that it wrote.
    """
    file = audit_page_of(get_step_context().step_name)
    path = write_audit_page(open_audit(negatives), new_folder("audit") / file)
    page = path.read_text(encoding="utf-8")
    path.unlink()
    path.parent.rmdir()
    tracking.log_page(page, file)
    publish_page(page, file)
    return HTMLString(page)
