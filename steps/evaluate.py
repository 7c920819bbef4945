"""Evaluate: BM25 and the model after every stage, judged on the same queries."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from zenml import log_metadata, step

from llara_core.config import EvaluateSettings
from llara_core.data.collection import Collection
from llara_core.data.lineage import lineage
from llara_core.evaluation.beir import Bm25System, DenseSystem, System, beir_metrics, evaluate_system
from llara_core.evaluation.comparison import Comparison, compare
from llara_core.model.bundle import read_bundle
from llara_core.model.retriever import Retriever
from steps import tracking
from steps.caching import policy
from steps.checkpoints import discard_checkpoints
from steps.materializers import FolderArtifact, FolderMaterializer
from steps.stored.collection import open_collection
from steps.stored.comparison import COMPARISON, store_comparison
from steps.stored.subsets import open_subsets
from steps.workspace import vectors_folder

logger = logging.getLogger(__name__)
# The stage that made a model is the last of its history; names are those of the pipeline's steps.
_STAGES = {
    "adapted": "adapt",
    "finetuned": "finetune",
    "finetuned_without_adaptation": "finetune_without_adaptation",
}


@step(cache_policy=policy(__file__), output_materializers=FolderMaterializer)
def evaluate(  # noqa: PLR0913, PLR0917 - one argument a model
    collection: FolderArtifact,
    leaks: FolderArtifact,
    negatives: FolderArtifact,
    settings: EvaluateSettings,
    base: FolderArtifact,
    adapted: FolderArtifact,
    finetuned: FolderArtifact,
    finetuned_without_adaptation: FolderArtifact | None = None,
) -> Annotated[FolderArtifact, "evaluation"]:
    """``comparison.json`` and, below ``systems/``, every system's scores per query, TREC run and MTEB's JSON.

    Args:
        collection: what ``accept`` gave.
        leaks: which queries training has not given away.
        negatives: of the last round of mining, for its remarks.
        settings: what is judged, and how deep.
        base: the model before anything.
        adapted: after adaptation.
        finetuned: after the last round of fine-tuning.
        finetuned_without_adaptation: the arm that shows what adaptation is worth, if there is one.

    Raises:
        DataError: the split to judge on does not exist or judges no known query.
    """
    discard_checkpoints()
    data = open_collection(collection)
    tracking.log_dataset(
        f"{data.name}/{settings.split}",
        data.content_hash,
        data.files.get("corpus", data.name),
        context="evaluation",
        facts=lineage(data),
    )
    given = {
        "base": base,
        "adapted": adapted,
        "finetuned": finetuned,
        "finetuned_without_adaptation": finetuned_without_adaptation,
    }
    models = {name: model.path for name, model in given.items() if model is not None}
    results = []
    for system in _systems(data, settings, models):
        result = evaluate_system(
            data,
            settings.split,
            system,
            settings.depth,
            metrics=beir_metrics(settings.depth),
            protocol={"data": data.content_hash},
        )
        logger.info("%s: nDCG@10 %.4f", result.name, result.means["ndcg_at_10"])
        results.append(result)
    # Those of the collection as it was ingested, also where leaks were dropped from training: so the same
    # queries stand beside the official score whatever the gate did.
    subsets = open_subsets(leaks) if settings.leak_free_subsets else None
    note = str(negatives.facts.get("note") or "")
    comparison = compare(
        data, results, subsets=subsets, histories=_histories(models), notes=[note] if note else []
    )
    _tell(comparison, [result.name for result in results])
    return store_comparison(comparison, results)


def _systems(data: Collection, settings: EvaluateSettings, models: Mapping[str, Path]) -> Iterator[System]:
    """BM25 and the models, each made when its turn comes, so that one is in memory at a time."""
    yield Bm25System(data, settings.bm25, cache=vectors_folder())
    for name, folder in models.items():
        retriever = Retriever.from_pretrained(folder)
        yield DenseSystem(name, retriever, data, vectors_folder(), dtype=settings.vectors)


def _histories(models: Mapping[str, Path]) -> dict[str, Sequence[Mapping[str, float]]]:
    """Loss curves by the stage that made them, from the models' own records."""
    return {
        stage: read_bundle(models[system]).history[-1].curve
        for system, stage in _STAGES.items()
        if system in models
    }


def _tell(comparison: Comparison, systems: Sequence[str]) -> None:
    """Metrics of the whole split under the contracted names, of the subsets below ``subsets/``."""
    name = comparison.collection["name"]
    metrics: dict[str, float] = {}
    for subset in comparison.subsets:
        prefix = name if subset["name"] == "all" else f"subsets/{subset['name']}/{name}"
        for system in systems if subset["queries"] else ():
            for metric, value in comparison.metrics_of(system, subset["name"]).items():
                metrics[f"{prefix}/{system}/{metric}"] = value
    tracking.log_metrics(metrics)
    tracking.log_json(comparison.to_dict(), COMPARISON)
    log_metadata(
        {"metrics": {key: value for key, value in metrics.items() if not key.startswith("subsets/")}}
    )
