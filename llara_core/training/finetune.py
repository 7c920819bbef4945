"""The contrastive stage: queries must find their passages among in-batch and hard negatives."""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow as pa

from llara_core.config import FinetuneSettings
from llara_core.data.collection import Collection
from llara_core.data.lineage import lineage
from llara_core.model.adapters import load_for_training, plain_model, trainable_model
from llara_core.model.bundle import Bundle, read_bundle, save_bundle
from llara_core.training.checkpoints import Checkpoints
from llara_core.training.contrastive import ContrastiveObjective
from llara_core.training.distillation import TeacherScores, check_teacher
from llara_core.training.distributed import connect, run_on_main, starting_device
from llara_core.training.engine import OnLog, finished_run, finished_stage, train
from llara_core.training.pairs import ContrastiveBatches, TrainingPairs
from llara_core.training.run_identity import collection_hashes, run_identity, table_hash

logger = logging.getLogger(__name__)

_Data = tuple[Collection, pa.Table, pa.Table | None]  # collection, negatives, teacher


def finetune(  # noqa: PLR0913  one argument per thing that a run is made of
    start: Path,
    collection: Collection,
    negatives: pa.Table,
    settings: FinetuneSettings,
    output: Path,
    seed: int,
    on_log: OnLog | None = None,
    *,
    teacher: pa.Table | None = None,
    checkpoints: Path | None = None,
) -> Path:
    """Fine-tune a bundle on the collection's training pairs and write the result as another bundle.

    Queries, positives and negatives are joined and tokenised once and every batch is planned from the seed;
    adapters, if any, are merged at the end, and the loss curve is saved in the history.

    Args:
        start: bundle to start from, adapted or not.
        collection: corpus, queries and qrels; only ``settings.split`` is read.
        negatives: table with ``query_id`` and ``corpus_id``, as the miner gives it; may be empty.
        settings: of the stage.
        output: folder of the new bundle.
        seed: of every draw and of dropout.
        on_log: called with the step and the logged values.
        teacher: table with ``query_id``, ``corpus_id`` and ``score``, to distil with
            ``settings.distillation_weight``; both or neither.
        checkpoints: folder from which an interrupted run goes on; None: it starts over. What the run kept
            there stays, marked as finished, until ``run_folders.discard`` removes it.

    Returns:
        ``output``.

    Raises:
        ConfigError: a teacher without a weight, or a weight without a teacher.
        TrainingError: nothing to train on, or a loss that is not finite.
        DataError: the split does not exist, or the folder of the checkpoints cannot be written.
        ModelError: ``start`` is no bundle.
    """
    connect()
    check_teacher(settings, teacher)
    bundle = read_bundle(start)
    model, tokenizer = load_for_training(bundle, settings, starting_device())
    pairs = TrainingPairs.collect(collection, negatives, settings.split)
    taught = None if teacher is None else TeacherScores.collect(teacher, collection, pairs)
    batches = ContrastiveBatches(pairs, collection, bundle.encoder(tokenizer), settings, seed, taught)
    model = trainable_model(model, settings, seed, head=False)
    model.train()
    objective = ContrastiveObjective(model, settings, bundle.template.slots_per_prompt)
    run = _kept(checkpoints, settings, seed, bundle, (collection, negatives, teacher))
    result = train("finetune", objective, batches, settings, seed, on_log, run)
    counts = {"queries": len(pairs.queries), "negatives": negatives.num_rows}
    stage = finished_stage("finetune", settings, result, seed, **counts)
    finished = bundle.with_stage(stage, data=lineage(collection))

    def save() -> str:
        save_bundle(output, plain_model(model, bundle, settings, starting_device()), tokenizer, finished)
        return finished_run(run, output)

    return Path(run_on_main(save))


def _kept(
    folder: Path | None, settings: FinetuneSettings, seed: int, start: Bundle, data: _Data
) -> Checkpoints | None:
    """The checkpoints of this run, if there is a folder for them."""
    if folder is None:
        return None
    collection, negatives, teacher = data
    hashes = {**collection_hashes(collection), "negatives": table_hash(negatives)}
    if teacher is not None:
        hashes["teacher"] = table_hash(teacher)
    identity = run_identity("finetune", settings, seed, start, hashes)
    return Checkpoints(folder, identity, settings.keep_checkpoints)
