"""Promote: the alias ``champion`` moves only to a version that passes the gate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from zenml import step

from llara_core.config import PromoteSettings
from llara_core.operations.decision import Verdict
from llara_core.operations.gate import PROMOTE, REFUSE, SKIP, judge
from llara_core.operations.gate_evidence import Evidence
from steps import registry, tracking
from steps.alerting import Alert, alert
from steps.caching import never
from steps.promotion import Decision, record


@step(enable_cache=False, cache_policy=never())
def promote(
    registration: dict[str, Any], evidence: dict[str, Any], settings: PromoteSettings
) -> Annotated[dict[str, Any], "promotion"]:
    """The decision; never cached, since the registry may have changed, and safe to repeat.

    Args:
        registration: what ``register`` gave.
        evidence: what ``gauge`` gave.
        settings: the gate's rules.
    """
    tracking.log_missing_metrics(
        {
            f"{registration['collection']}/{system}/{metric}": value
            for system, values in registration["scores"].items()
            for metric, value in values.items()
        }
    )
    name, number = registration["name"], registration["version"]
    facts = {"name": name, "version": number, "system": registration["system"], "arm": registration["arm"]}
    if number is None or not (tracking.active_run_id() and registry.registry_is_mlflow()):
        reason = "no version was registered: the stack has no MLflow model registry and experiment tracker"
        alert(Alert("promotion skipped", f"{name}: nothing to promote", reason, "warning", {"model": name}))
        return {**facts, **_told(Verdict(SKIP, "no version was registered")), "version": None}
    registry.finish_move(name)
    champion = registry.version_of(name, registry.CHAMPION)
    present = None if champion is None else str(champion.version)
    if champion is not None and present == str(number):
        verdict = earlier(champion.tags)
    else:
        verdict = decide(evidence, present, settings)
        if verdict.action == PROMOTE:
            registry.move_champion(name, number, present)
    record(name, number, Decision(verdict.action == PROMOTE, verdict.reason), verdict)
    return {**facts, **_told(verdict)}


def decide(evidence: Mapping[str, Any], champion: str | None, settings: PromoteSettings) -> Verdict:
    """Judge the evidence, if it is about the champion of this moment.

    Args:
        evidence: what ``gauge`` gave.
        champion: the version behind the alias now; None where the alias is free.
        settings: the gate's rules.
    """
    # No evidence: the version was the champion itself when it was gauged.
    judged = evidence["champion"] if evidence else "this one"
    if judged != champion:
        return Verdict(
            REFUSE,
            f"the champion changed while this version was judged (against version {judged or 'none'}, now "
            f"{champion or 'none'}); the same command judges it against the present one",
        )
    return judge(Evidence.of(evidence), settings)


def earlier(tags: Mapping[str, str]) -> Verdict:
    """What was decided when the present champion was promoted, as its tags tell it."""
    try:
        return Verdict.of(json.loads(tags[registry.VERDICT]))
    except (KeyError, TypeError, ValueError):  # an alias moved by hand, or by an older version of ours
        return Verdict(PROMOTE, tags.get(registry.REASON, "it is the champion already"))


def _told(verdict: Verdict) -> dict[str, Any]:
    return {
        "promoted": verdict.action == PROMOTE,
        "reason": verdict.reason,
        "verdict": verdict.to_dict(),
    }
