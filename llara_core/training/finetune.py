"""The contrastive stage: queries must find their passages among in-batch and hard negatives."""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow as pa

from llara_core.config import FinetuneSettings
from llara_core.data.collection import Collection
from llara_core.model.backbone import choose_device, with_lora
from llara_core.model.bundle import read_bundle, save_bundle
from llara_core.training.contrastive import ContrastiveObjective
from llara_core.training.engine import OnLog, finished_stage, train
from llara_core.training.pairs import ContrastiveBatches, TrainingPairs

logger = logging.getLogger(__name__)


def finetune(
    start: Path,
    collection: Collection,
    negatives: pa.Table,
    settings: FinetuneSettings,
    output: Path,
    seed: int,
    on_log: OnLog | None = None,
) -> Path:
    """Fine-tune a bundle on the collection's training pairs and write the result as another bundle.

    1. Join queries, positives and negatives; plan every batch from the seed; tokenise once.
    2. Train: InfoNCE over the unique passages of each batch.
    3. Merge adapters, if any, and save with the loss curve in the history.

    Args:
        start: bundle to start from, adapted or not.
        collection: corpus, queries and qrels; only ``settings.split`` is read.
        negatives: table with ``query_id`` and ``corpus_id``, as the miner gives it; may be empty.
        settings: of the stage.
        output: folder of the new bundle.
        seed: of every draw and of dropout.
        on_log: called with the step and the logged values.

    Returns:
        ``output``.

    Raises:
        TrainingError: nothing to train on, or a loss that is not finite.
        DataError: the split does not exist.
        ModelError: ``start`` is no bundle.
    """
    bundle = read_bundle(start)
    model, tokenizer = bundle.load(choose_device())
    encoder = bundle.encoder(tokenizer)
    pairs = TrainingPairs.collect(collection, negatives, settings.split)
    batches = ContrastiveBatches(pairs, collection, encoder, settings, seed)
    if settings.lora is not None:
        model = with_lora(model, settings.lora, seed)
    model.train()
    objective = ContrastiveObjective(model, settings, bundle.template.slots_per_prompt)
    result = train("finetune", objective, batches, settings, seed, on_log)
    if settings.lora is not None:
        model = model.merge_and_unload()
    counts = {"queries": len(pairs.queries), "negatives": negatives.num_rows}
    stage = finished_stage("finetune", settings, result, seed, **counts)
    hashes = {collection.name: collection.content_hash}
    save_bundle(output, model, tokenizer, bundle.with_stage(stage, hashes))
    return output
