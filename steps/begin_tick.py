"""Begin a tick: take the lock, or find out who has it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Any

from zenml import get_step_context, log_metadata, step

from llara_core.errors import ConfigError
from llara_core.operations.lock import Held
from steps import registry, tick_state, tracking
from steps.caching import never


@step(enable_cache=False, cache_policy=never())
def begin_tick(name: str) -> Annotated[dict[str, Any], "tick"]:
    """Name and time of the tick, and who is at work already; always runs.

    Args:
        name: of the registered model.

    Returns:
        ``tick`` (name of this run), ``time`` (ISO 8601, UTC), ``busy`` (who holds the lock, in words; None:
        it is ours) and ``crashed`` (who held it and ended without a word; None: nobody).

    Raises:
        ConfigError: the stack has no MLflow model registry: there is no champion to look at.
        LockError: the file system of the local state has no locks.
    """
    run = get_step_context().pipeline_run.name
    if not (tracking.active_run_id() and registry.registry_is_mlflow()):
        raise ConfigError(
            "the retraining asks the MLflow model registry which version is the champion, and this stack has "
            "no such registry or no experiment tracker; use a stack with both, e.g. -s llara-local"
        )
    found = tick_state.hold(name, run)
    facts = {
        "tick": run,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "busy": None if isinstance(found, Held) else found.words(),
        "crashed": found.crashed.words() if isinstance(found, Held) and found.crashed else None,
    }
    log_metadata({"tick": {key: value or "" for key, value in facts.items()}})
    return facts
