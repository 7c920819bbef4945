"""The single looks of a tick: each gives a number, or None with the reason under its name in ``absent``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from zenml.client import Client

from llara_core.config import TrainingSettings
from llara_core.data.collection import Collection
from llara_core.data.intake import take_in
from llara_core.errors import DataError
from llara_core.evaluation.beir import DenseSystem, evaluate_system
from llara_core.model.retriever import Retriever
from llara_core.operations.freshness import Quality
from llara_core.operations.freshness_documents import Changes, compare
from llara_core.operations.freshness_queries import Shift, energy_shift, read_queries
from llara_core.retraining_settings import FreshJudgedSettings, QuerySettings
from llara_core.retrieval.hashes import passage_hashes
from steps import registry
from steps.accepted import ARTIFACT
from steps.stored.collection import open_collection
from steps.workspace import new_folder, vectors_folder

Absent = dict[str, str]


@dataclass(frozen=True)
class Champion:
    """The present champion; what it was made of and its model are fetched when they are asked for.

    Args:
        name: of the registered model.
        number: of the version.
        tags: of the version.
    """

    name: str
    number: str
    tags: Mapping[str, str]

    @cached_property
    def model(self) -> Retriever:
        """The model.

        Raises:
            ModelError: the version holds no bundle of ours.
        """
        return Retriever.from_pretrained(registry.bundle_of(self.name, self.number))

    @cached_property
    def collection(self) -> Collection | None:
        """What it was trained on; None where that artifact is gone or out of reach."""
        client = Client()
        found = client.list_artifact_versions(
            artifact=ARTIFACT, sort_by="desc:created", size=1, hydrate=True,
            run_metadata=f"data_hash:equals:{self.tags.get('data_hash')}",
        ).items  # fmt: skip
        if not found or found[0].artifact_store_id != client.active_stack.artifact_store.id:
            return None
        try:
            return open_collection(found[0].load())
        except (DataError, OSError):
            return None


def documents(champion: Champion, data: Collection, absent: Absent) -> Changes | None:
    """What became of the documents since the champion was trained."""
    before = champion.collection
    if before is None:
        absent["documents"] = (
            f"the collection of version {champion.number} is out of reach (deleted, or elsewhere)"
        )
        return None
    if before.content_hash == data.content_hash:
        return Changes(data.corpus.num_rows, 0, 0, 0, 0)
    return compare(
        before.corpus_ids, passage_hashes(before.passages), data.corpus_ids, passage_hashes(data.passages)
    )


def shift(
    champion: Champion, data: Collection, told: TrainingSettings, settings: QuerySettings, absent: Absent
) -> Shift | None:
    """How far the newest queries lie from those of the champion's time, in its own vectors."""
    if settings.log is None:
        absent["queries"] = "no query log is kept (queries.log)"
        return None
    logs = [Path(one).expanduser() for one in (settings.log, settings.reference) if one is not None]
    missing = [str(one) for one in logs if not one.is_file()]
    if missing:
        absent["queries"] = f"there is no query log {', '.join(missing)}"
        return None
    fresh = read_queries(logs[0], settings.sample)
    if settings.reference is not None:
        reference = read_queries(logs[1], settings.sample)
    else:
        reference = _training_queries(champion.collection or data, told.evaluate.train_split, settings)
    fewest = min(len(fresh), len(reference))
    if fewest < settings.minimum_queries:
        absent["queries"] = (
            f"{len(fresh)} different new queries and {len(reference)} of the champion's time; "
            f"{settings.minimum_queries} of each are needed"
        )
        return None
    vectors = [champion.model.encode_queries(texts) for texts in (reference, fresh)]
    return energy_shift(
        *vectors, level=settings.level, permutations=settings.permutations, seed=settings.seed
    )


def quality(
    champion: Champion,
    data: Collection,
    told: TrainingSettings,
    settings: FreshJudgedSettings,
    absent: Absent,
) -> Quality | None:
    """How well the champion answers judged queries of these days."""
    metric = told.promote.metric
    recorded = registry.score_of(champion, metric)
    if settings.split is None or recorded is None:
        absent["quality"] = (
            "there are no fresh judged queries (judged.split)"
            if settings.split is None
            else f"version {champion.number} carries no {metric} of ours"
        )
        return None
    folder = new_folder("judged")
    try:
        place = settings.collection
        judged = data if place is None else take_in(place, folder).collection
        if settings.split not in judged.qrels:
            absent["quality"] = f"collection {judged.name} has no judgements {settings.split} (yet)"
            return None
        system = DenseSystem(
            "champion", champion.model, judged, vectors_folder(), dtype=told.evaluate.vectors
        )
        result = evaluate_system(judged, settings.split, system, told.evaluate.depth)
        return Quality.of(np.asarray(result.per_query[metric]), recorded.value, metric, settings)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _training_queries(data: Collection, split: str, settings: QuerySettings) -> list[str]:
    """Different queries of the training split, a sample where there are many."""
    if split not in data.qrels:
        return []
    _, texts = data.split_queries(split)
    different = sorted({" ".join(text.split()) for text in texts} - {""})
    if len(different) <= settings.sample:
        return different
    chosen = np.random.default_rng(settings.seed).choice(len(different), settings.sample, replace=False)
    return [different[place] for place in sorted(chosen)]
