"""Identify the text to adapt on: a fingerprint that changes when the text does."""

from __future__ import annotations

from typing import Annotated

from zenml import log_metadata, step

from llara_core.config import AdaptationSettings
from llara_core.data.intake import with_repaired
from llara_core.data.text_folder import text_fingerprint
from steps import tracking
from steps.caching import never


@step(enable_cache=False, cache_policy=never())
def identify_text(settings: AdaptationSettings) -> Annotated[str, "text_fingerprint"]:
    """Fingerprint of the text; always runs, so that ``ingest_text`` may be cached on it.

    It also logs all parameters of the run: later steps may come from the cache and say nothing.

    Raises:
        DataError: the file or folder is missing, or holds no text.
        ConfigError: the source names an environment variable that is not set.
    """
    fingerprint = with_repaired(text_fingerprint(settings.text), settings.text.ingest)
    tracking.log_parameters(settings.model_dump(mode="json"))
    log_metadata({"source": settings.text.source, "text_fingerprint": fingerprint})
    return fingerprint
