"""Validate: no training on data that breaks a critical rule."""

from __future__ import annotations

import logging
from typing import Annotated, Any

from zenml import step
from zenml.types import HTMLString

from steps.caching import policy
from steps.data_pages import publish_judgement
from steps.expectations import Lengths, judge
from steps.materializers import FolderArtifact
from steps.stored.collection import open_collection
from steps.stored.ingested import open_profile
from steps.workspace import DATA_DOCS_PAGE

logger = logging.getLogger(__name__)


@step(cache_policy=policy(__file__, "configs/expectations", "steps/data_docs.css"))
def validate(
    ingested: FolderArtifact, previous: dict[str, Any], passage_length: int, query_length: int
) -> Annotated[HTMLString, "data_docs"]:
    """Data Docs of the collection: Great Expectations suites over every row, pair and change.

    The page reaches MLflow and ``.local/reports`` also when the run stops here.

    Args:
        ingested: what ``ingest`` gave.
        previous: profile of the version that was accepted before; empty where there is none.
        passage_length: tokens of a passage that the model reads.
        query_length: the same of a query.

    Raises:
        DataError: a critical expectation failed; names file, row and rule.
    """
    judgement = judge(
        open_collection(ingested),
        previous=previous or None,
        profile=open_profile(ingested),
        lengths=Lengths(passage_length, query_length),
    )
    publish_judgement(judgement, "validation", "data_docs.html", DATA_DOCS_PAGE)
    judgement.raise_critical()
    return HTMLString(judgement.page)
