"""Promote the adapted model: ``champion`` is the newest version that is good to start from."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from zenml import step

from steps import registry, tracking
from steps.caching import never
from steps.promotion import Decision, record

logger = logging.getLogger(__name__)

# Above it every passage has nearly the same vector. Averaged slots of large decoders are alike by nature
# (0.9 and more before fine-tuning), so only what leaves nothing to search by is refused.
COLLAPSED = 0.99


@step(enable_cache=False, cache_policy=never())
def promote_adapted(registration: dict[str, Any]) -> Annotated[dict[str, Any], "promotion"]:
    """The decision; never cached, since the registry may have changed, and safe to repeat.

    Adapted models of different text cannot be ranked by their losses, so there is no contest with the
    present champion: a newer version takes its place if it is good by itself (``decide``).

    Args:
        registration: what ``register_adapted`` gave.
    """
    name, number, judgement = registration["name"], registration["version"], registration["judgement"]
    tracking.log_missing_metrics(
        {
            f"held_out/{model}/{key}": value
            for model in ("base", "adapted")
            for key, value in judgement[model].items()
        }
    )
    if number is None or not (tracking.active_run_id() and registry.registry_is_mlflow()):
        return {**asdict(Decision(False, "no version was registered")), "name": name, "version": None}
    champion = registry.version_of(name, registry.CHAMPION)
    present = None if champion is None else str(champion.version)
    if present == str(number):
        decision = Decision(True, champion.tags.get(registry.REASON, "it is the champion already"))
    elif present is not None and int(present) > int(number):
        decision = Decision(False, f"version {present}, the champion, is newer; move the alias by hand")
    else:
        decision = decide(judgement)
        if decision.promoted:
            registry.move_champion(name, number, present)
    record(name, number, decision)
    return {**asdict(decision), "name": name, "version": number}


def decide(judgement: Mapping[str, Mapping[str, float]]) -> Decision:
    """Whether an adapted model is good to start from, by passages held out from its training.

    It is when its loss is finite and lower than its base's, and its embeddings have not collapsed. That
    is a low bar, on purpose: what an adaptation is worth shows after fine-tuning only.

    Args:
        judgement: ``base`` and ``adapted``, each with ``loss`` (nats) and ``cosine``.
    """
    before, after = judgement["base"]["loss"], judgement["adapted"]["loss"]
    cosine = judgement["adapted"]["cosine"]
    words = f"held-out loss {after:.4f} against the base's {before:.4f}"
    if not math.isfinite(after):
        return Decision(False, f"{words}: not finite")
    if not after < before:
        return Decision(False, f"{words}: adaptation did not lower it")
    if not cosine <= COLLAPSED:
        return Decision(False, f"{words}, but the mean cosine of passages is {cosine:.3f}: collapsed")
    return Decision(True, f"{words}, mean cosine of passages {cosine:.3f}")
