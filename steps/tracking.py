"""What steps say to MLflow, on stacks that have an experiment tracker; elsewhere one line says so.

ZenML's tracker opens one MLflow run for a pipeline run and resumes it for every step, so these
functions only write into the run that is open. They never start one.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)
_TEXT_COLUMNS = ("_id", "title", "text")  # of every collection; MLflow shows them as the schema

_PARAMETER_LIMIT = 6000  # characters that MLflow keeps of one parameter
_said = False


def active_run_id() -> str | None:
    """Id of the open MLflow run, or None when the stack tracks nothing."""
    global _said  # noqa: PLW0603 - the remark is wanted once a process, not once a call
    # Looked up instead of imported: without a tracker nobody else needs MLflow's four seconds.
    mlflow = sys.modules.get("mlflow")
    run = mlflow.active_run() if mlflow is not None else None
    if run is None and not _said:
        _said = True
        logger.info(
            "No MLflow run is open for this step (no experiment tracker in the stack, or a step "
            "that is not tracked): nothing is logged to MLflow."
        )
    return None if run is None else str(run.info.run_id)


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as ``adapt.learning_rate``-like names and plain values."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{name}.")
        else:
            yield name, value


def log_parameters(values: Mapping[str, Any]) -> None:
    """Log nested settings as flat parameters."""
    if active_run_id():
        import mlflow

        mlflow.log_params({name: str(value)[:_PARAMETER_LIMIT] for name, value in flatten(values)})


def log_metrics(values: Mapping[str, float], step: int | None = None) -> None:
    """Log metrics at a step of training, or of the whole run."""
    if active_run_id():
        import mlflow

        mlflow.log_metrics({name: float(value) for name, value in values.items()}, step=step)


def log_missing_metrics(values: Mapping[str, float]) -> None:
    """Log metrics that the run does not have yet, because the step that made them came from the cache."""
    if run_id := active_run_id():
        import mlflow

        present = mlflow.MlflowClient().get_run(run_id).data.metrics
        log_metrics({name: value for name, value in values.items() if name not in present})


def curve_logger(stage: str) -> Callable[[int, Mapping[str, float]], None]:
    """A training callback that logs ``<stage>/loss`` and whatever else the stage reports."""

    def on_log(step: int, values: Mapping[str, float]) -> None:
        log_metrics({f"{stage}/{name}": value for name, value in values.items()}, step)

    return on_log


def log_dataset(
    name: str,
    content_hash: str,
    source: str,
    context: str,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Log a data set as input of the run; its digest is our own content hash.

    MLflow keeps 36 characters of a digest, so the whole hash is in the input's tag ``content_hash`` too.
    A run holds one input of a name and digest, with its first context: evaluation names ``<name>/<split>``.

    Args:
        name: of the collection.
        content_hash: hash of its content.
        source: where it came from, as the user wrote it.
        context: what it is used for: ``training``, ``adaptation`` or ``evaluation``.
        facts: of ``llara_core.data.lineage``; shown as the data set's profile.
    """
    if active_run_id():
        import mlflow

        from steps.tracked_dataset import CollectionDataset

        dataset = CollectionDataset(name, content_hash, source, list(_TEXT_COLUMNS), facts or {})
        mlflow.log_input(dataset, context=context, tags={"content_hash": content_hash})


def log_page(html: str, file: str) -> None:
    """Log an HTML page as an artifact of the run."""
    if active_run_id():
        import mlflow

        mlflow.log_text(html, file)


def log_text(text: str, file: str) -> None:
    """Log a text, e.g. a Markdown table, as an artifact of the run."""
    if active_run_id():
        import mlflow

        mlflow.log_text(text, file)


def log_json(value: Any, file: str) -> None:
    """Log a JSON document as an artifact of the run."""
    if active_run_id():
        import mlflow

        mlflow.log_dict(value, file)


def log_files(folder: Path, target: str) -> None:
    """Log the files of a folder as artifacts of the run."""
    if active_run_id():
        import mlflow

        mlflow.log_artifacts(str(folder), artifact_path=target)


def set_tags(values: Mapping[str, str]) -> None:
    """Set tags of the run."""
    if active_run_id():
        import mlflow

        mlflow.set_tags(dict(values))
