"""Validate negatives: what was mined is judged before anything is trained on it."""

from __future__ import annotations

from typing import Annotated

from zenml import get_step_context, step
from zenml.types import HTMLString

from steps.caching import policy
from steps.data_pages import publish_judgement
from steps.expectations import Lengths, judge_negatives
from steps.materializers import FolderArtifact
from steps.stored.collection import open_collection
from steps.stored.table import open_table


@step(cache_policy=policy(__file__, "configs/expectations", "steps/data_docs.css"))
def validate_negatives(
    collection: FolderArtifact, negatives: FolderArtifact, passage_length: int, query_length: int
) -> Annotated[HTMLString, "negatives_docs"]:
    """Data Docs of one round's hard negatives.

    Args:
        collection: whose queries and documents they name.
        negatives: what ``mine`` gave.
        passage_length: tokens of a passage that the model reads.
        query_length: the same of a query.

    Raises:
        DataError: a critical expectation failed, e.g. a negative is judged relevant.
    """
    stage = get_step_context().step_name
    judgement = judge_negatives(
        open_collection(collection),
        open_table(negatives),
        file=stage.removeprefix("validate_"),
        lengths=Lengths(passage_length, query_length),
    )
    publish_judgement(judgement, stage, f"{stage}.html", f"{stage}.html")
    judgement.raise_critical()
    return HTMLString(judgement.page)
