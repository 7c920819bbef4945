"""Identify a collection: a fingerprint that changes when its source does."""

from __future__ import annotations

from typing import Annotated

from zenml import log_metadata, step

from llara_core.config import CollectionSettings
from llara_core.data.intake import intake_fingerprint
from steps.caching import never


@step(enable_cache=False, cache_policy=never())
def identify_collection(settings: CollectionSettings) -> Annotated[str, "source_fingerprint"]:
    """Fingerprint of the source; always runs, so that ``admit`` may be cached on it.

    All collections are identified before the first is judged, so that a folder that has gone stops the
    run before it has cost anything.

    Raises:
        DataError: the folder or one of its files is missing.
        ConfigError: the folder's name uses an environment variable that is not set.
    """
    fingerprint = intake_fingerprint(settings)
    log_metadata({"source": settings.source, "source_fingerprint": fingerprint})
    return fingerprint
