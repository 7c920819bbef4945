"""ZenML's and MLflow's logs, reduced to what a person wants to read."""

from __future__ import annotations

import logging
import os
import re
import sys

from llara_core.errors import LlaraError

# Said at every run, and nothing to act upon.
_NOISE = re.compile(
    "|".join(
        (
            "Registered new pipeline",
            r"Using (a build|user|stack)",
            "Initiating a new run",
            "Dashboard URL",
            "You can visualize your pipeline runs",
            r"^  \w+: ",
            "No materializer",
            "Caching (is )?disabled",
            "does not have an artifact hash",
            "Failed to disable MLflow autologging",
            "Started monitoring system metrics",
            "Stopping system metrics monitoring",
            "Successfully terminated system metrics",
            "Pipeline run has finished",
            "All steps of the pipeline run were cached",
            "Received signal",
            # The launcher says it, last and once.
            r"^Failed to run step",
            r"^Step \S+ failed",
            "git commit",
            "does not support running steps in isolated runtimes",  # shards are threads here, as told
        )
    )
)


class _Filter(logging.Filter):
    """Drops noise; tells an error of ours once, at the end, and without its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            if isinstance(error, LlaraError | KeyboardInterrupt):
                return False
            # Raised again by ZenML and shown by the launcher with --debug.
            record.exc_info, record.exc_text = None, None
        if record.name == "py.warnings":
            return False  # of libraries, about themselves
        ours = record.name.split(".")[0] in ("llara_core", "steps", "pipelines")
        if record.levelno < logging.WARNING and not ours and record.name.split(".")[0] != "zenml":
            return False
        return ours or not _NOISE.search(record.getMessage())


def before_imports() -> None:
    """Settings that libraries read when they are imported: no colours into files, no second progress bars."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    if not sys.stdout.isatty():
        os.environ.setdefault("ZENML_LOGGING_COLORS_DISABLED", "true")
    # Imported by peft wherever it is installed, it regrets a kernel for CPUs that nobody asked for.
    logging.getLogger("bitsandbytes.backends").setLevel(logging.ERROR)


def hush() -> None:
    """Install the filter on every handler; call it after importing ``zenml`` and ``mlflow``."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # "Loading weights": ours say more
    chatty = _Filter()
    handlers = {id(one): one for one in logging.getLogger().handlers}
    for name in ("mlflow", "alembic", "great_expectations"):
        handlers.update({id(one): one for one in logging.getLogger(name).handlers})
    for handler in handlers.values():
        handler.addFilter(chatty)
    for name in ("alembic", "great_expectations", "mlflow.store.db", "httpx", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
