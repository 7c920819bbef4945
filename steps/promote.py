"""Promote: the alias ``champion`` moves only to a version that is better on the same data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

from zenml import step

from llara_core.config import PromoteSettings
from llara_core.evaluation.beir import DenseSystem, evaluate_system
from llara_core.model.retriever import Retriever
from steps import registry, tracking
from steps.caching import never
from steps.materializers import FolderArtifact
from steps.promotion import Decision, record
from steps.registry import Score
from steps.stored.collection import open_collection
from steps.workspace import vectors_folder


@step(enable_cache=False, cache_policy=never())
def promote(
    registration: dict[str, Any], collection: FolderArtifact, settings: PromoteSettings
) -> Annotated[dict[str, Any], "promotion"]:
    """The decision; never cached, since the registry may have changed, and safe to repeat.

    Args:
        registration: what ``register`` gave.
        collection: the data of this run, on which a champion of older data is judged again.
        settings: metric and least gain.
    """
    tracking.log_missing_metrics(
        {
            f"{registration['collection']}/{system}/{metric}": value
            for system, values in registration["scores"].items()
            for metric, value in values.items()
        }
    )
    name, number = registration["name"], registration["version"]
    if number is None or not (tracking.active_run_id() and registry.registry_is_mlflow()):
        return {**asdict(Decision(False, "no version was registered")), "name": name, "version": None}
    champion = registry.version_of(name, registry.CHAMPION)
    challenger = Score(
        registration["scores"]["finetuned"][settings.metric],
        registration["collection"],
        registration["data_hash"],
        registration["split"],
    )
    if champion is not None and str(champion.version) == str(number):
        decision = Decision(True, champion.tags.get(registry.REASON, "it is the champion already"))
    else:
        rejudge = lambda: _judge_again(name, champion, collection, challenger, settings)  # noqa: E731
        present = registry.score_of(champion, settings.metric) if champion is not None else None
        decision = decide(challenger, champion is not None, present, settings, rejudge)
        if decision.promoted:
            registry.move_champion(name, number, None if champion is None else str(champion.version))
    record(name, number, decision)
    return {**asdict(decision), "name": name, "version": number}


def decide(
    challenger: Score,
    has_champion: bool,
    champion: Score | None,
    settings: PromoteSettings,
    rejudge: Callable[[], float],
) -> Decision:
    """Compare a new version with the present champion.

    Args:
        challenger: the new version's score.
        has_champion: whether the alias is taken.
        champion: what the champion's tags say; None when they say nothing.
        settings: metric and least gain.
        rejudge: measures the champion on the challenger's data, in the same metric.
    """
    if not has_champion:
        return Decision(True, "there was no champion yet")
    if champion is None:
        return Decision(False, "the present champion carries no scores of ours; move the alias by hand")
    if champion.collection != challenger.collection or champion.split != challenger.split:
        return Decision(
            False,
            f"the present champion is judged on {champion.collection}/{champion.split}, this version on "
            f"{challenger.collection}/{challenger.split}: not comparable; registry.model_name keeps both",
        )
    same = champion.data_hash == challenger.data_hash
    present = champion.value if same else rejudge()
    gain = challenger.value - present
    words = f"{settings.metric} {challenger.value:.4f} against the champion's {present:.4f}"
    if not same:
        words += " (judged again on the present data)"
    if gain > settings.minimum_gain:
        return Decision(True, f"{words}: better by {gain:.4f}")
    least = f"more than {settings.minimum_gain} is asked for" if settings.minimum_gain else "not better"
    return Decision(False, f"{words}: {least}")


def _judge_again(
    name: str, champion: Any, collection: FolderArtifact, challenger: Score, settings: PromoteSettings
) -> float:
    data = open_collection(collection)
    retriever = Retriever.from_pretrained(registry.bundle_of(name, str(champion.version)))
    system = DenseSystem("champion", retriever, data, vectors_folder())
    result = evaluate_system(data, challenger.split, system)
    return float(result.means[settings.metric])
