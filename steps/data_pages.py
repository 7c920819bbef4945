"""Pages about data: to MLflow, to ``.local/reports``, and linked from the ZenML run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from zenml import get_step_context, log_metadata
from zenml.metadata.metadata_types import Uri

from steps import tracking
from steps.workspace import publish_page

if TYPE_CHECKING:
    from steps.expectations import Judgement

logger = logging.getLogger(__name__)


def publish(page: str, name: str, file: str, local_file: str) -> str:
    """Put a page where people look for it, and say in both runs where that is.

    Args:
        page: self-contained HTML.
        name: what the links are called: MLflow's tag ``page/<name>``, ZenML's metadata ``page_<name>``.
        file: its path among the artifacts of the MLflow run.
        local_file: its name below ``.local/reports``.

    Returns:
        Where it lies, in words.
    """
    tracking.log_page(page, file)
    tracking.set_tags({f"page/{name}": file})
    local = publish_page(page, local_file)
    if local is not None:
        link = {f"page_{name}": Uri(local.resolve().as_uri())}
        log_metadata(link)
        log_metadata(link, run_id_name_or_prefix=get_step_context().pipeline_run.id)
    return str(local) if local is not None else f"{file} in MLflow"


def publish_judgement(judgement: Judgement, name: str, file: str, local_file: str) -> None:
    """Figures, warnings and the Data Docs of a judgement by expectation suites.

    Args:
        judgement: what the suites said.
        name: under which its figures are logged: ``validation``, ``validate_negatives`` …
        file: of the page in MLflow.
        local_file: of the page below ``.local/reports``.
    """
    log_metadata({name: judgement.summary})
    tracking.log_metrics({f"{name}/{key}": value for key, value in judgement.summary.items()})
    place = publish(judgement.page, file.removesuffix(".html").replace("/", "_"), file, local_file)
    for failure in judgement.failures:
        if not failure.critical:
            logger.warning("%s:%s: %s [%s]", failure.file, failure.row or "", failure.message, failure.rule)
    if judgement.summary["failed_critical"]:
        logger.error("The data cannot be used; all findings: %s", place)
