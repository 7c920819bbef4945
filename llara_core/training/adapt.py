"""The adaptation stage: EBAE and EBAR on plain text, no labels needed."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
from torch import Tensor

from llara_core.config import AdaptSettings
from llara_core.errors import TrainingError
from llara_core.model.backbone import choose_device, decoder_of, with_lora
from llara_core.model.bundle import read_bundle, save_bundle
from llara_core.model.joint_pass import check_joint_support
from llara_core.model.prompts import PromptEncoder
from llara_core.training.adaptation_rows import (
    AdaptationBatches,
    TargetRule,
    TokenRows,
    inverse_document_frequency,
    log_unigram,
)
from llara_core.training.engine import OnLog, finished_stage, train
from llara_core.training.objectives import AdaptationObjective

logger = logging.getLogger(__name__)


def adapt(
    base: Path,
    rows: pa.Table,
    settings: AdaptSettings,
    output: Path,
    seed: int,
    on_log: OnLog | None = None,
) -> Path:
    """Adapt a bundle to retrieval and write the result as another bundle.

    1. Tokenise all rows once and plan every batch from the seed.
    2. Train: one joint pass a step.
    3. Merge adapters, if any, and save with the loss curve in the history.

    Args:
        base: bundle to start from.
        rows: table with ``text`` and ``next_text`` (an empty ``next_text`` gives no EBAR target).
        settings: of the stage.
        output: folder of the new bundle.
        seed: of order, spans and dropout.
        on_log: called with the step and the logged values.

    Returns:
        ``output``.

    Raises:
        TrainingError: no text to adapt on, or a loss that is not finite.
        ModelError: ``base`` is no bundle, or its positions are too few.
    """
    bundle = read_bundle(base)
    model, tokenizer = bundle.load(choose_device())
    encoder = bundle.encoder(tokenizer)
    prompt = len(encoder.prefix_ids) + max(len(encoder.ebae_suffix_ids), len(encoder.ebar_suffix_ids))
    check_joint_support(decoder_of(model), prompt + settings.text_length)
    vocabulary = model.get_output_embeddings().weight.shape[0]
    batches, log_prior = _plan(rows, encoder, settings, vocabulary, seed)
    if settings.lora is not None:
        new_slots = [*encoder.ebae_slot_ids, *encoder.ebar_slot_ids]
        model = with_lora(model, settings.lora, seed, trained_tokens=new_slots)
    objective = AdaptationObjective(model, settings, len(encoder.prefix_ids), log_prior)
    model.train()
    result = train("adapt", objective, batches, settings, seed, on_log)
    if settings.lora is not None:
        model = model.merge_and_unload()
    stage = finished_stage("adapt", settings, result, seed, rows=rows.num_rows)
    save_bundle(output, model, tokenizer, bundle.with_stage(stage))
    return output


def _plan(
    rows: pa.Table, encoder: PromptEncoder, settings: AdaptSettings, vocabulary: int, seed: int
) -> tuple[AdaptationBatches, Tensor | None]:
    """All batches of the stage, and the log frequencies [V] added to the logits, if any."""
    texts = TokenRows.pack(encoder.text_ids(_column(rows, "text")))
    following = TokenRows.pack(encoder.text_ids(_column(rows, "next_text"), settings.text_length))
    rule = _rule(settings, encoder, texts, vocabulary)
    batches = AdaptationBatches(texts, following, encoder, rule, settings, seed)
    return batches, _prior(settings, texts, vocabulary)


def _column(rows: pa.Table, name: str) -> list[str]:
    if name not in rows.column_names:
        raise TrainingError(
            f"adapt: the rows have no column {name!r} (they have: {', '.join(rows.column_names)}); "
            "expected text and next_text, as llara_core.data.passages gives them"
        )
    return [text or "" for text in rows[name].to_pylist()]


def _prior(settings: AdaptSettings, texts: TokenRows, vocabulary: int) -> Tensor | None:
    if not settings.frequency_prior:
        return None
    return log_unigram(texts, vocabulary, once_per_row=settings.targets == "unique")


def _rule(settings: AdaptSettings, encoder: PromptEncoder, texts: TokenRows, vocabulary: int) -> TargetRule:
    excluded = np.zeros(vocabulary, dtype=bool)
    excluded[encoder.special_ids] = True
    weights = inverse_document_frequency(texts, vocabulary) if settings.idf_weights else None
    return TargetRule(excluded, settings.targets == "all", weights)
