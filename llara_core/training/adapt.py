"""The adaptation stage: EBAE and EBAR on plain text, no labels needed."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from llara_core.config import AdaptSettings
from llara_core.errors import TrainingError
from llara_core.files import new_folder
from llara_core.model.adapters import load_for_training, plain_model, trainable_model
from llara_core.model.backbone import decoder_of
from llara_core.model.bundle import CARD_NAME, read_bundle, save_bundle
from llara_core.model.joint_pass import check_joint_support
from llara_core.model.prompts import PromptEncoder
from llara_core.training.adaptation_rows import AdaptationBatches
from llara_core.training.adaptation_targets import (
    TargetRule,
    TokenRows,
    inverse_document_frequency,
    log_unigram,
)
from llara_core.training.checkpoints import Checkpoints
from llara_core.training.distributed import connect, run_on_main, starting_device, training_device
from llara_core.training.engine import OnLog, finished_run, finished_stage, train
from llara_core.training.micro_batches import cut_rule
from llara_core.training.objectives import AdaptationObjective
from llara_core.training.run_identity import run_identity, table_hash
from llara_core.training.stop_words import check_stop_words, stop_word_ids

logger = logging.getLogger(__name__)


def adapt(
    base: Path,
    rows: pa.Table,
    settings: AdaptSettings,
    output: Path,
    seed: int,
    on_log: OnLog | None = None,
    *,
    checkpoints: Path | None = None,
) -> Path:
    """Adapt a bundle to retrieval and write the result as another bundle.

    1. Tokenise all rows once and plan every batch from the seed.
    2. Train: one joint pass a step.
    3. Merge adapters, if any, and save with the loss curve in the history.

    With ``settings.steps`` 0 the base is passed on unchanged: it is adapted already.

    Args:
        base: bundle to start from.
        rows: table with ``text`` and ``next_text`` (an empty ``next_text`` gives no EBAR target).
        settings: of the stage.
        output: folder of the new bundle.
        seed: of order, spans and dropout.
        on_log: called with the step and the logged values.
        checkpoints: folder from which an interrupted run goes on; None: it starts over. What the run kept
            there stays, marked as finished, until ``run_folders.discard`` removes it.

    Returns:
        ``output``.

    Raises:
        TrainingError: no text to adapt on, or a loss that is not finite.
        ModelError: ``base`` is no bundle, or its positions are too few.
        DataError: the folder of the checkpoints cannot be written.
        ConfigError: ``settings.stop_words`` is no language with a list.
    """
    connect()
    check_stop_words(settings.stop_words)
    bundle = read_bundle(base)
    if not settings.steps:
        return Path(run_on_main(lambda: _passed_on(base, output)))
    device = starting_device()
    model, tokenizer = load_for_training(bundle, settings, device)
    objective, batches = _task(model, bundle.encoder(tokenizer), rows, settings, seed)
    run = None
    if checkpoints is not None:
        identity = run_identity("adapt", settings, seed, bundle, {"rows": table_hash(rows)})
        run = Checkpoints(checkpoints, identity, settings.keep_checkpoints)
    result = train("adapt", objective, batches, settings, seed, on_log, run)
    stage = finished_stage("adapt", settings, result, seed, rows=rows.num_rows)

    def save() -> str:
        plain = plain_model(objective.model, bundle, settings, device)
        save_bundle(output, plain, tokenizer, bundle.with_stage(stage))
        return finished_run(run, output)

    return Path(run_on_main(save))


def _task(
    model: Any, encoder: PromptEncoder, rows: pa.Table, settings: AdaptSettings, seed: int
) -> tuple[AdaptationObjective, AdaptationBatches]:
    """What is optimised, its model ready to train, and the steps that it is optimised by."""
    prompt = len(encoder.prefix_ids) + max(len(encoder.ebae_suffix_ids), len(encoder.ebar_suffix_ids))
    check_joint_support(decoder_of(model), prompt + settings.text_length, training=True)
    vocabulary = model.get_output_embeddings().weight.shape[0]
    batches, log_prior = plan(rows, encoder, settings, vocabulary, seed)
    batches.cutting = cut_rule(training_device(), settings.micro_batch_tokens)
    new_slots = [*encoder.ebae_slot_ids, *encoder.ebar_slot_ids]
    trained = trainable_model(model, settings, seed, trained_tokens=new_slots)
    objective = AdaptationObjective(trained, settings, len(encoder.prefix_ids), log_prior)
    trained.train()
    return objective, batches


def plan(
    rows: pa.Table, encoder: PromptEncoder, settings: AdaptSettings, vocabulary: int, seed: int
) -> tuple[AdaptationBatches, Tensor | None]:
    """All batches of the stage, and the log frequencies [V] added to the logits, if any.

    Args:
        rows: table with ``text`` and ``next_text``.
        encoder: tokenises.
        settings: of the stage.
        vocabulary: V, rows of the output embedding.
        seed: of order and spans.

    Raises:
        TrainingError: a column is missing, or there is no text.
    """
    texts = TokenRows.tokenised(_column(rows, "text"), encoder.text_ids)
    reach = max(settings.text_length, settings.target_length or 0)
    following = TokenRows.tokenised(_column(rows, "next_text"), lambda some: encoder.text_ids(some, reach))
    rule = _rule(settings, encoder, texts, vocabulary)
    batches = AdaptationBatches(texts, following, encoder, rule, settings, seed)
    return batches, _prior(settings, texts, vocabulary)


def _passed_on(base: Path, output: Path) -> str:
    """The base as it is: no steps means that it is adapted already. Its history says by which run."""
    logger.info("adapt: no steps; the base is passed on as it is")
    with new_folder(output, replace=(CARD_NAME,)) as folder:
        shutil.copytree(base, folder, dirs_exist_ok=True)
    return str(output)


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
    if settings.stop_words is not None:
        excluded[stop_word_ids(encoder.tokenizer, settings.stop_words)] = True
    weights = inverse_document_frequency(texts, vocabulary) if settings.idf_weights else None
    return TargetRule(excluded, settings.targets == "all", weights)
