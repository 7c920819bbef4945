"""Validate: no training on data that breaks a critical rule."""

from __future__ import annotations

import logging
from typing import Annotated

from zenml import log_metadata, step
from zenml.types import HTMLString

from steps import tracking
from steps.caching import policy
from steps.expectations import judge
from steps.materializers import FolderArtifact
from steps.stored.collection import open_collection
from steps.workspace import DATA_DOCS_PAGE, publish_page

logger = logging.getLogger(__name__)


@step(cache_policy=policy(__file__, "configs/expectations", "steps/data_docs.css"))
def validate(collection: FolderArtifact) -> Annotated[HTMLString, "data_docs"]:
    """Data Docs of the collection: Great Expectations suites over every row.

    The page reaches MLflow and ``.local/reports`` also when the run stops here.

    Raises:
        DataError: a critical expectation failed; names file, row and rule.
    """
    judgement = judge(open_collection(collection))
    log_metadata({"validation": judgement.summary})
    tracking.log_metrics({f"validation/{name}": value for name, value in judgement.summary.items()})
    tracking.log_page(judgement.page, "data_docs.html")
    page = publish_page(judgement.page, DATA_DOCS_PAGE)
    for failure in judgement.failures:
        if not failure.critical:
            logger.warning("%s:%s: %s [%s]", failure.file, failure.row or "", failure.message, failure.rule)
    if judgement.summary["failed_critical"]:
        logger.error("The data cannot be used; all findings: %s", page or "data_docs.html in MLflow")
    judgement.raise_critical()
    return HTMLString(judgement.page)
