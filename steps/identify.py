"""Identify the text source: a fingerprint that changes when the source does."""

from __future__ import annotations

from typing import Annotated

from zenml import log_metadata, step

from llara_core.config import TrainingSettings
from llara_core.data.intake import intake_fingerprint
from steps import tracking
from steps.caching import never


@step(enable_cache=False, cache_policy=never())
def identify(settings: TrainingSettings) -> Annotated[str, "source_fingerprint"]:
    """Fingerprint of the collection's source; always runs, so that ``ingest`` may be cached on it.

    It also logs all parameters of the run: later steps may come from the cache and say nothing.

    Raises:
        DataError: the folder or one of its files is missing.
        ConfigError: the folder's name uses an environment variable that is not set.
    """
    fingerprint = intake_fingerprint(settings.collection)
    tracking.log_parameters(settings.model_dump(mode="json"))
    log_metadata({"source": settings.collection.source, "source_fingerprint": fingerprint})
    return fingerprint
