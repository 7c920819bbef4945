"""The retraining pipeline: one tick. Look at the data, decide, do what was decided. Wiring only.

It is a static pipeline whose last step runs the training and indexing pipelines by the launcher's own
commands, so that ``zenml pipeline run``, a schedule and ``python -m pipelines retraining`` do the same. A
dynamic pipeline could branch within one run, but its hooks run once a run, not once a step (no time, cost and
ids of steps), and it refuses ``after=`` by name, so it could not use the training's own wiring (ZenML 0.98).
"""

from __future__ import annotations

from typing import Any, TypeVar

from zenml import pipeline
from zenml.enums import ExecutionMode
from zenml.utils.env_utils import substitute_env_variable_placeholders

from llara_core.config import TrainingSettings
from llara_core.errors import ConfigError
from llara_core.retraining_settings import RetrainingSettings
from pipelines.checked import checked
from pipelines.environment import REPOSITORY
from pipelines.options import for_stack, readable_errors
from pipelines.training import data_steps
from steps.act import act
from steps.begin_tick import begin_tick
from steps.decide import decide
from steps.observe import observe
from steps.tick_hooks import TICK_HOOKS

Values = TypeVar("Values")
STEPS = (
    "begin_tick", "identify", "ingest", "recall", "validate", "duplicates", "leaks", "data_report", "accept",
    "observe", "decide", "act",
)  # fmt: skip


@checked(STEPS, RetrainingSettings)
@pipeline(name="retraining", execution_mode=ExecutionMode.FAIL_FAST, **TICK_HOOKS)
@readable_errors
def retraining_pipeline(  # noqa: PLR0913, PLR0917 - the fields of RetrainingSettings
    training: str | None = None,
    indexing: str | None = None,
    start: str | None = None,
    from_champion: dict[str, Any] | None = None,
    documents: dict[str, Any] | None = None,
    queries: dict[str, Any] | None = None,
    judged: dict[str, Any] | None = None,
    maximum_age_days: float | None = 90.0,
) -> None:
    """Begin, read and validate the data, observe, decide, act.

    The parameters are the fields of ``llara_core.retraining_settings.RetrainingSettings``, as plain values.

    Raises:
        ConfigError: a setting is unknown or out of range; names the nearest known one.
    """
    given = dict(locals())
    _wire(RetrainingSettings.of_parameters(given))


def _wire(settings: RetrainingSettings) -> None:
    """Connect the steps; the files that the settings name are read here, so that the run records them."""
    training = filled(settings.training_values(REPOSITORY))
    indexing = filled(settings.indexing_values(REPOSITORY))
    told = TrainingSettings.parse(training.get("parameters"), "parameters")
    name = told.registry.model_name
    files: dict[str, Any] = {"training": training, "indexing": indexing, "settings": settings}
    tick = for_stack(begin_tick)(name=name)
    collection, _ = data_steps(told)
    observation = for_stack(observe)(tick=tick, collection=collection, **files)
    verdict = for_stack(decide)(tick=tick, observation=observation, name=name, settings=settings)
    for_stack(act)(tick=tick, observation=observation, verdict=verdict, name=name, **files)


def filled(values: Values) -> Values:
    """Values with their ``${VARIABLES}`` filled in, as ZenML does with the file of a run started by hand.

    So the training finds what the tick has read in the cache, and a tick on a cluster needs none of them.

    Raises:
        ConfigError: a variable is not set.
    """
    try:
        return substitute_env_variable_placeholders(values)
    except KeyError as error:
        raise ConfigError(f"{error.args[0]} Export it first, then start the tick again") from None
