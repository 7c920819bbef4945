"""Cutover: the pair that the canary accepted serves from now on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

from zenml import log_metadata, step

from llara_core.operations.canary import CUTOVER, REFUSE
from llara_core.operations.live import LiveStore, Pair
from steps import registry, tracking
from steps.caching import never
from steps.live_state import settle
from steps.servable import servable

logger = logging.getLogger(__name__)
LIVE_SINCE = "llara.live_since"  # tag of a version: when it began to serve last


@step(enable_cache=False, cache_policy=never())
def cutover(
    chosen: dict[str, Any], staged: dict[str, Any], verdict: dict[str, Any], again: bool
) -> Annotated[dict[str, Any], "live_outcome"]:
    """What serves now: ``state`` (live, kept, refused or superseded), ``words``, ``generation``, ``serves``.

    Safe to repeat. Where somebody has moved the pointer or taken the version back since the canary looked,
    nothing changes.

    Args:
        chosen: what ``choose_pair`` gave.
        staged: what ``stage_pair`` gave.
        verdict: what ``canary`` gave.
        again: also a pair that was rolled back may serve.

    Raises:
        LiveError: the pointer is damaged.
        DataError: the pointer cannot be written.
    """
    store = LiveStore(Path(chosen["store"]))
    outcome = _follow(store, chosen, staged, verdict, again)
    current = store.current()
    outcome["generation"] = None if current is None else current.name
    outcome["serves"] = None if current is None else current.version
    log_metadata({"live": {key: str(value) for key, value in outcome.items()}})
    tracking.set_tags({"live": outcome["state"], "live_generation": str(outcome["generation"])})
    logger.info("%s: %s", chosen["name"], outcome["words"])
    return outcome


def _follow(
    store: LiveStore, chosen: dict[str, Any], staged: dict[str, Any], verdict: dict[str, Any], again: bool
) -> dict[str, Any]:
    generation = staged["generation"]
    if verdict["action"] == REFUSE:
        serves = "nothing serves" if chosen["live"] is None else f"{chosen['live']} still serves"
        words = f"the canary refused {generation}: {verdict['reason']}; {serves}"
        return {"state": "refused", "words": words}
    if verdict["action"] != CUTOVER:
        return {"state": "kept", "words": verdict["reason"]}
    settle(store, chosen["name"])
    if (changed := _changed(store, chosen, staged)) is not None:
        return {"state": "superseded", "words": f"{changed}; run the indexing again"}
    pair = Pair.read(store.folder / generation)
    pointer = store.cutover(pair, chosen["live"], verdict["reason"], again=again)
    _mark(chosen["name"], pair.version, str(pointer.history[-1]["at"]))
    return {
        "state": "live",
        "words": f"version {pair.version} serves with {pair.documents} documents ({pair.name})",
    }


def _changed(store: LiveStore, chosen: dict[str, Any], staged: dict[str, Any]) -> str | None:
    """What has happened since the canary looked; None: nothing."""
    wanted = str(servable(chosen["name"]).version)
    if wanted != staged["version"]:
        return f"version {wanted} is to serve now, {staged['generation']} was made with {staged['version']}"
    present = store.current()
    name = None if present is None else present.name
    if name not in (chosen["live"], staged["generation"]):
        return f"{name} serves now, {chosen['live'] or 'nothing'} did when the canary looked"
    return None


def _mark(name: str, version: str, moment: str) -> None:
    """Say in the registry since when a version serves; for readers, nothing is decided by it."""
    import mlflow

    if registry.version_of(name, registry.CHAMPION) is not None:
        mlflow.MlflowClient().set_model_version_tag(name, version, LIVE_SINCE, moment)
