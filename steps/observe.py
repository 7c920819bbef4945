"""Observe: corpus, queries, champion and live index, as numbers that a tick decides by."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from zenml import log_metadata, step

from llara_core.config import REGISTRY, TrainingSettings
from llara_core.data.collection import Collection
from llara_core.operations.freshness import Observation
from llara_core.operations.freshness_history import read, unfinished
from llara_core.retraining_settings import RetrainingSettings
from steps import registry, tick_state
from steps.caching import never
from steps.materializers import FolderArtifact
from steps.observed import Champion, documents, quality, shift
from steps.stored.collection import open_collection

logger = logging.getLogger(__name__)

_DAY = 86_400.0  # seconds


@step(enable_cache=False, cache_policy=never())
def observe(
    tick: dict[str, Any],
    collection: FolderArtifact,
    training: dict[str, Any],
    indexing: dict[str, Any] | None,
    settings: RetrainingSettings,
) -> Annotated[dict[str, Any], "observation"]:
    """What ``Observation.to_dict`` gives; never cached, since registry, index and logs change.

    Args:
        tick: what ``begin_tick`` gave; while another tick is at work nothing is looked at.
        collection: as it is now, validated.
        training: the run configuration of the training.
        indexing: that of the live index; None: none is kept.
        settings: which logs and judgements, and how they are compared.

    Raises:
        ModelError: the champion holds no bundle of ours.
        DataError: a query log or a collection of fresh judgements cannot be read.
    """
    if tick["busy"]:
        return Observation(busy=tick["busy"]).to_dict()
    told = TrainingSettings.parse(training.get("parameters"), "parameters")
    name, data = told.registry.model_name, open_collection(collection)
    registry.finish_move(name)
    version = registry.version_of(name, registry.CHAMPION)
    absent: dict[str, str] = {}
    seen: dict[str, Any] = {"data_hash": data.content_hash, "absent": absent}
    seen["unfinished"] = _unfinished(name, tick, data)
    seen["tried"] = _tried(name, version, training, settings, data)
    if indexing is not None:
        from steps.observed_live import index, live

        seen["live"], pair = live(name, indexing, version)
        seen["index"] = index(pair, data, absent)
    if version is None:
        absent |= dict.fromkeys(("documents", "queries", "quality"), "there is no champion")
    else:
        champion = Champion(name, str(version.version), version.tags)
        seen["champion"] = champion.number
        registered = float(version.creation_timestamp) / 1000
        seen["age_days"] = (datetime.fromisoformat(tick["time"]).timestamp() - registered) / _DAY
        seen["documents"] = documents(champion, data, absent)
        seen["queries"] = shift(champion, data, told, settings.queries, absent)
        seen["quality"] = quality(champion, data, told, settings.judged, absent)
    observation = Observation(**seen).to_dict()
    log_metadata({"observation": json.dumps(observation)})
    return observation


def _unfinished(name: str, tick: Mapping[str, Any], data: Collection) -> str | None:
    """What becomes of a tick that was cut off: it is gone on with, or its data are of yesterday."""
    left = unfinished([one for one in read(tick_state.history(name)) if one["tick"] != tick["tick"]])
    if left is None:
        return None
    words = f"{left['tick']} decided to {left['action']} and did not end well"
    if left.get("data_hash") == data.content_hash:
        return f"{words}; the data are the same, so what it finished is taken from the cache"
    return f"{words}; the data have changed since, so its work is superseded"


def _tried(
    name: str, champion: Any, training: dict[str, Any], settings: RetrainingSettings, data: Collection
) -> str | None:
    """Which version a training would only make again, and what the gate said of it."""
    reference = None if champion is None else f"{REGISTRY}{name}/{champion.version}"
    planned = settings.planned(training, reference).get("parameters")
    wanted = TrainingSettings.parse(planned, "parameters").model_dump(mode="json", exclude={"promote"})
    for one in registry.versions_of(name):
        tags = one.tags
        if tags.get("data_hash") != data.content_hash or not _was_judged(tags):
            continue
        if json.loads(tags.get("configuration", "{}")) == wanted:
            said = "promoted" if tags["promoted"] == "true" else "refused"
            return (
                f"version {one.version} was trained on the same data with the same settings and {said} "
                f"({tags.get(registry.REASON, 'no reason is recorded')})"
            )
    return None


def _was_judged(tags: Mapping[str, str]) -> bool:
    """Whether the gate has come to an end with a version, and not only found the champion to be another."""
    if tags.get("promoted") == "true":
        return True
    return bool(json.loads(tags.get(registry.VERDICT, "{}")).get("checks"))
