"""Canary: a fixed sample of queries, asked of the new pair before it serves."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

from zenml import log_metadata, step

from llara_core.indexing_settings import CanarySettings
from llara_core.operations.canary import KEEP, REFUSE, judge
from llara_core.operations.decision import Verdict
from llara_core.operations.live import LiveStore, Pair
from steps import tracking
from steps.alerting import Alert, alert
from steps.caching import never
from steps.canary_evidence import gather
from steps.materializers import FolderArtifact
from steps.stored.collection import open_collection

logger = logging.getLogger(__name__)


@step(enable_cache=False, cache_policy=never())
def canary(
    chosen: dict[str, Any],
    staged: dict[str, Any],
    collection: FolderArtifact,
    settings: CanarySettings,
    again: bool,
) -> Annotated[dict[str, Any], "canary_verdict"]:
    """The verdict, as ``Verdict.to_dict`` gives it; a refusal is an answer, not a failure, and is alerted.

    Never cached, since what is live may have changed.

    Args:
        chosen: what ``choose_pair`` gave.
        staged: what ``stage_pair`` gave.
        collection: the corpus that the new index should hold.
        settings: sample and limits.
        again: also a pair that was rolled back may serve.

    Raises:
        DataError: an index cannot be opened.
        ModelError: an index holds vectors of another model than its pair's.
    """
    store = LiveStore(Path(chosen["store"]))
    verdict = _nothing_to_do(store, staged, again)
    if verdict is None:
        new = Pair.read(store.folder / staged["generation"])
        live = None if chosen["live"] is None else Pair.read(store.folder / chosen["live"])
        verdict = judge(gather(new, live, open_collection(collection), settings), settings)
    _record(chosen["name"], staged, verdict)
    return verdict.to_dict()


def _nothing_to_do(store: LiveStore, staged: dict[str, Any], again: bool) -> Verdict | None:
    """Why what serves stays, without a look at the new pair."""
    if staged["how"] == "unchanged":
        return Verdict(KEEP, f"{staged['generation']} serves already: the same model, the same corpus")
    why = store.pointer().taken_back.get(staged["generation"])
    if why is not None and not again:
        return Verdict(
            KEEP,
            f"{staged['generation']} was rolled back ({why}), so it does not serve again by itself; change "
            "the corpus or the model, or set again: true",
        )
    return None


def _record(name: str, staged: dict[str, Any], verdict: Verdict) -> None:
    """Write the verdict to the step and the MLflow run; tell somebody of a refusal."""
    told = {"action": verdict.action, "reason": verdict.reason, "checks": verdict.markdown()}
    log_metadata({"canary": told})
    tracking.log_text(verdict.markdown(), "canary.md")
    tracking.log_json(verdict.to_dict(), "canary.json")
    tracking.set_tags({"canary": verdict.action, "canary_reason": verdict.reason})
    tracking.log_metrics({f"canary/{one.name}": one.value for one in verdict.checks if one.value is not None})
    logger.info("Canary: %s: %s", verdict.action, verdict.reason)
    if verdict.action == REFUSE:
        version = str(staged["version"])
        title = f"{name}: the new pair of version {version} does not serve"
        facts = {
            "model": name,
            "version": version,
            "generation": str(staged["generation"]),
            "next command": "llara live",
        }
        alert(Alert("canary refused", title, verdict.reason, "critical", facts))
