"""The version of a collection that was accepted before: what drift is told against."""

from __future__ import annotations

import json
import logging
from typing import Any

from zenml.client import Client

from steps.stored.ingested import PROFILE

logger = logging.getLogger(__name__)

ARTIFACT = "collection"  # what the step `accept` gives, after all gates
_LOOKED_AT = 200  # versions of collections, newest first


def previous_profile(name: str, data_hash: str) -> dict[str, Any] | None:
    """The profile of the last accepted version of a collection with other content than now.

    The same content accepted again is not a version of its own: a run that repeats another compares with
    what that one compared with, so its result is the same and later steps come from the cache.

    Args:
        name: of the collection.
        data_hash: content hash of the version that is judged now.

    Returns:
        None where no run has accepted other content under this name, or its file is out of reach.
    """
    client = Client()
    store = client.active_stack.artifact_store
    found = client.list_artifact_versions(
        artifact=ARTIFACT, sort_by="desc:created", size=_LOOKED_AT, hydrate=True,
        run_metadata=f"name:equals:{name}",
    )  # fmt: skip
    for version in found.items:
        if version.run_metadata.get("source_hash") in (None, data_hash):
            continue
        uri = f"{version.uri}/content/{PROFILE}"
        if version.artifact_store_id != store.id or not store.exists(uri):
            logger.warning(
                "Collection %s: what was accepted on %s cannot be read here (another store, or an older "
                "version of this project); drift is not judged",
                name, version.created,
            )  # fmt: skip
            return None
        with store.open(uri, "r") as source:
            profile: dict[str, Any] = json.loads(source.read())
        return profile
    return None
