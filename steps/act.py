"""Act: run what the tick decided, as the very commands that a person would type, under the tick's lock.

Each pipeline is a run of its own, in a process of its own: a kill of either loses nothing, since the next
tick decides the same and finds what was finished in the cache. A child inherits the lock, so that one which
has outlived its tick is still the only one at work. Source: issue 6, point 2.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import yaml
from zenml import log_metadata, step
from zenml.client import Client

from llara_core.config import REGISTRY
from llara_core.errors import LlaraError
from llara_core.files import new_file
from llara_core.operations.freshness import REFRESH, SKIP, TRAIN
from llara_core.operations.freshness_history import append
from llara_core.operations.lock import Held
from llara_core.retraining_settings import RetrainingSettings
from steps import registry, tick_state, tracking
from steps.caching import ROOT, never

logger = logging.getLogger(__name__)

# Of this tick's own MLflow run; a child with them would write into it.
_NOT_FOR_CHILDREN = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")


class FollowUpError(LlaraError):
    """What a tick started has failed."""


@step(enable_cache=False, cache_policy=never())
def act(
    tick: dict[str, Any],
    observation: dict[str, Any],
    verdict: dict[str, Any],
    name: str,
    training: dict[str, Any],
    indexing: dict[str, Any] | None,
    settings: RetrainingSettings,
) -> Annotated[dict[str, Any], "tick_outcome"]:
    """What followed: ``state`` (``nothing``, ``done``, ``superseded``, ``left``) and ``words``.

    Args:
        tick: what ``begin_tick`` gave.
        observation: what ``observe`` gave.
        verdict: what ``decide`` gave.
        name: of the registered model.
        training: the run configuration of the training.
        indexing: that of the live index; None: none is kept.
        settings: from base or from the champion.

    Raises:
        FollowUpError: a pipeline that was started failed; its own log says why.
    """
    if verdict["action"] == SKIP:
        if not tick["busy"]:
            tick_state.release(name)
        return {"state": "nothing", "words": "nothing to do"}
    try:
        outcome = _follow(tick, observation, verdict["action"], name, training, indexing, settings)
    finally:
        tick_state.release(name)
    append(tick_state.history(name), {"tick": tick["tick"], "outcome": outcome})
    log_metadata({"outcome": {key: str(value) for key, value in outcome.items()}})
    tracking.set_tags({"tick_outcome": outcome["words"]})
    logger.info("Tick: %s", outcome["words"])
    return outcome


def _follow(
    tick: Mapping[str, Any],
    observation: Mapping[str, Any],
    action: str,
    name: str,
    training: dict[str, Any],
    indexing: dict[str, Any] | None,
    settings: RetrainingSettings,
) -> dict[str, Any]:
    held = tick_state.hold(name, tick["tick"])
    if not isinstance(held, Held):  # taken between two steps that ran in processes of their own
        return {"state": "left", "words": f"left to {held.words()}"}
    champion = _champion(name)
    if champion != observation["champion"]:
        words = (
            f"the champion is {champion or 'none'} now, the decision was made with {observation['champion']}"
        )
        return {"state": "superseded", "words": f"{words}; the next tick decides anew"}
    words = []
    if action == TRAIN:
        reference = None if champion is None else f"{REGISTRY}{name}/{champion}"
        run = f"{tick['tick']}-training"
        _run("training", {**settings.planned(training, reference), "run_name": run}, name, held)
        words.append(_promotion(run))
    if action in (TRAIN, REFRESH) and indexing is not None:
        # Also after a refusal: the champion that stays serves the corpus of now.
        run = f"{tick['tick']}-indexing"
        _run("indexing", {**indexing, "run_name": run}, name, held)
        words.append(_served(run))
    return {"state": "done", "words": "; ".join(words), "champion": _champion(name)}


def _champion(name: str) -> str | None:
    registry.finish_move(name)
    version = registry.version_of(name, registry.CHAMPION)
    return None if version is None else str(version.version)


def _promotion(run: str) -> str:
    """What the gate said of the version that was trained."""
    step = Client().get_pipeline_run(run).steps["promote"]
    promotion = step.outputs["promotion"][0].load()
    if promotion["version"] is None:
        return f"trained, but not registered: {promotion['reason']}"
    said = "promoted" if promotion["promoted"] else "not promoted"
    return f"version {promotion['version']} was trained and {said}: {promotion['reason']}"


def _served(run: str) -> str:
    """What serves after an indexing: a canary that refuses is no failure of the run."""
    step = Client().get_pipeline_run(run).steps["cutover"]
    return str(step.outputs["live_outcome"][0].load()["words"])


def _run(kind: str, values: Mapping[str, Any], name: str, held: Held) -> None:
    """Run a pipeline by the launcher and wait for it; told to stop, tell it and wait.

    Raises:
        FollowUpError: it failed.
    """
    # Beside the history: the very configuration that ran, to be run again by hand.
    file = tick_state.history(name).with_suffix("") / f"{kind}.yaml"
    with new_file(file) as partial:
        partial.write_text(yaml.safe_dump(dict(values), sort_keys=False), encoding="utf-8")
    stack = Client().active_stack_model.name
    command = [sys.executable, "-m", "pipelines", kind, "--config", str(file), "--stack", stack]
    held.note(kind)
    logger.info("Tick: starting the %s pipeline (%s)", kind, file)
    code = _wait(command, held.handle)
    if code == 0:
        return
    how = f"exit code {code}" if code > 0 else f"killed by signal {-code}"
    raise FollowUpError(
        f"the {kind} that this tick started failed ({how}); its own message stands above. Run the same "
        "command again, or wait for the next tick: what was finished is in the cache"
    )


def _wait(command: list[str], lock: int) -> int:
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), pass_fds=(lock,))  # noqa: S603
    try:
        return process.wait()
    except BaseException:
        # Ctrl-C reaches both; SIGTERM only us. Either way the child shall tidy up before the lock is free.
        process.terminate()
        process.wait()
        raise


def environment() -> dict[str, str]:
    """The environment of a pipeline that a step starts."""
    kept = {key: value for key, value in os.environ.items() if key not in _NOT_FOR_CHILDREN}
    if not kept.get("MLFLOW_TRACKING_URI"):  # ZenML empties it when a run ends
        kept.pop("MLFLOW_TRACKING_URI", None)
    if kept.get("ZENML_STORE_API_KEY"):  # on a cluster; the token is good for this step's own run alone
        kept.pop("ZENML_STORE_API_TOKEN", None)
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH"))))
    return kept
