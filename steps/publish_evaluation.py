"""Publish an evaluation: metrics, files and page to MLflow, scores to the registered versions."""

from __future__ import annotations

import logging
from typing import Annotated, Any

from zenml import step
from zenml.types import HTMLString

from steps import registry, tracking
from steps.caching import never
from steps.materializers import FolderArtifact
from steps.recorded import failure_of
from steps.stored.side_by_side import PAGE, open_page, open_summary
from steps.workspace import EVALUATION_PAGE, publish_page

logger = logging.getLogger(__name__)


@step(enable_cache=False, cache_policy=never())
def publish_evaluation(
    comparison: FolderArtifact,
    collections: list[FolderArtifact],
    results: list[FolderArtifact],
    systems: list[dict[str, str]],
    configuration: dict[str, Any],
) -> Annotated[HTMLString, "evaluation_page"]:
    """The page; never cached, so that the MLflow run of a run from the cache is as full as any other.

    Metrics are ``<collection>/<system>/<metric>``, and ``subsets/<subset>/…`` on leak-free queries. A
    registered version gets the tags ``evaluation/<collection>/<metric>``, with ``…/split`` and
    ``…/data_hash`` that say on what.

    Args:
        comparison: what ``side_by_side`` gave.
        collections: what ``admit`` gave.
        results: what ``judge_system`` gave.
        systems: what ``identify_system`` gave.
        configuration: all settings of the run, for the record.
    """
    summary = open_summary(comparison)
    tracking.log_parameters(configuration)
    tracking.log_metrics(
        {
            f"{name}/{system}/{metric}": value
            for name, one in summary["collections"].items()
            for system, scores in one["systems"].items()
            for metric, value in scores.items()
        }
    )
    tracking.log_metrics(
        {
            f"subsets/{subset}/{name}/{system}/{metric}": value
            for name, one in summary["collections"].items()
            for subset, marked in one["subsets"].items()
            for system, scores in marked["systems"].items()
            for metric, value in scores.items()
        }
    )
    for result in results:
        if failure_of(result) is None:
            tracking.log_files(result.path, f"results/{result.facts['collection']}/{result.facts['system']}")
    tracking.log_files(comparison.path, "evaluation")
    hashes = {
        str(one.facts["name"]): str(one.facts["data_hash"]) for one in collections if failure_of(one) is None
    }
    for name, one in summary["collections"].items():
        tracking.log_dataset(f"{name}/{one['split']}", hashes[name], name, context="evaluation")
    for system in systems:
        _tag(system, summary["collections"], hashes)
    page = open_page(comparison)
    if page is None:
        return HTMLString("<p>Fewer than two systems were judged: there is nothing to compare.</p>")
    tracking.log_page(page, PAGE)
    publish_page(page, EVALUATION_PAGE)
    return HTMLString(page)


def _tag(system: dict[str, str], collections: dict[str, Any], hashes: dict[str, str]) -> None:
    """Write a version's scores to its tags; a folder or BM25 has none."""
    if not system["place"].startswith(registry.SCHEME):
        return
    import mlflow

    name, _, number = system["place"].removeprefix(registry.SCHEME).rpartition("/")
    client = mlflow.MlflowClient()
    for collection, one in collections.items():
        scores = one["systems"].get(system["name"])
        if scores is None:
            continue
        said = {metric: repr(value) for metric, value in scores.items()}
        said |= {"split": one["split"], "data_hash": hashes[collection]}
        for key, value in said.items():
            client.set_model_version_tag(name, number, f"evaluation/{collection}/{key}", value)
