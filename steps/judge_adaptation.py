"""Judge adaptation: the base and the adapted model on passages that neither was trained on."""

from __future__ import annotations

import logging
from typing import Annotated, Any

from zenml import log_metadata, step

from llara_core.config import AdaptSettings
from llara_core.training.adaptation_loss import held_out_losses
from steps import tracking
from steps.caching import policy
from steps.checkpoints import discard_checkpoints
from steps.materializers import FolderArtifact
from steps.stored.table import open_table

logger = logging.getLogger(__name__)


@step(cache_policy=policy(__file__))
def judge_adaptation(
    base: FolderArtifact,
    adapted: FolderArtifact,
    held_out: FolderArtifact,
    settings: AdaptSettings,
    seed: int,
) -> Annotated[dict[str, Any], "adaptation_judgement"]:
    """``base`` and ``adapted``, each with ``loss``, its terms and ``cosine``, and the number of ``rows``.

    Args:
        base: the model before adaptation.
        adapted: the model after it.
        held_out: table of ``text`` and ``next_text`` that adaptation did not read.
        settings: of the adaptation, whose objective both are judged by.
        seed: of random spans, the same for both.
    """
    discard_checkpoints()
    rows = open_table(held_out)
    models = {"base": base, "adapted": adapted}
    judged: dict[str, Any] = {
        name: held_out_losses(model.path, rows, settings, seed) for name, model in models.items()
    }
    metrics = {f"held_out/{name}/{key}": value for name, one in judged.items() for key, value in one.items()}
    tracking.log_metrics(metrics)
    log_metadata({"held_out": judged})
    logger.info("Held-out loss: %.4f → %.4f nats", judged["base"]["loss"], judged["adapted"]["loss"])
    return {**judged, "rows": rows.num_rows}
