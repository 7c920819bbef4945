"""The indexing pipeline: the champion encodes the corpus, a canary looks, the pair serves. Wiring only.

Source: issue 6, point 4.
"""

from __future__ import annotations

from typing import Any

from zenml import pipeline
from zenml.enums import ExecutionMode

from llara_core.indexing_settings import IndexingSettings
from pipelines.checked import checked
from pipelines.environment import REPOSITORY
from pipelines.options import for_stack, readable_errors
from pipelines.training import data_steps
from steps.canary import canary
from steps.choose_pair import choose_pair
from steps.cutover import cutover
from steps.hooks import HOOKS
from steps.stage_pair import stage_pair

STEPS = (
    "identify", "ingest", "recall", "validate", "duplicates", "leaks", "data_report", "accept",
    "choose_pair", "stage_pair", "canary", "cutover",
)  # fmt: skip


@checked(STEPS, IndexingSettings)
@pipeline(name="indexing", execution_mode=ExecutionMode.FAIL_FAST, **HOOKS)
@readable_errors
def indexing_pipeline(
    training: str | None = None,
    live: str | None = None,
    index: dict[str, Any] | None = None,
    canary: dict[str, Any] | None = None,
    again: bool = False,
) -> None:
    """Read and validate the data, choose the version, make its pair, ask the canary, cut over.

    The parameters are the fields of ``llara_core.indexing_settings.IndexingSettings``, as plain values.

    Raises:
        ConfigError: a setting is unknown or out of range; names the nearest known one.
    """
    given = {key: value for key, value in locals().items() if value is not None}
    _wire(IndexingSettings.parse(given, ""))


def _wire(settings: IndexingSettings) -> None:
    """Connect the steps; the data come first, so that a corpus that breaks its rules is never indexed."""
    told = settings.trained(REPOSITORY)
    collection, _ = data_steps(told)
    chosen = for_stack(choose_pair)(name=told.registry.model_name, live=settings.live)
    staged = for_stack(stage_pair)(chosen=chosen, collection=collection, shape=settings.index)
    verdict = for_stack(canary)(
        chosen=chosen, staged=staged, collection=collection, settings=settings.canary, again=settings.again
    )
    for_stack(cutover)(chosen=chosen, staged=staged, verdict=verdict, again=settings.again)
