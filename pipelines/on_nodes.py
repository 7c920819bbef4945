"""A training stage as pods of one job, between a step that asks for it and one that takes the result.

ZenML runs several pods for command steps alone, and these have neither inputs nor outputs. The lineage goes
round them: inputs → request → model. A command step is never taken from the cache; pods that find the result
of their request on the volume end at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from zenml.client import Client
from zenml.enums import StackComponentType
from zenml.steps import BaseStep, CommandStep

from llara_core.config import AdaptationSettings, TrainingSettings
from llara_core.errors import ConfigError
from llara_core.launch_settings import LaunchSettings
from pipelines.options import for_stack
from steps.collect_adapted import collect_adapted
from steps.collect_finetuned import collect_finetuned
from steps.request_adapt import request_adapt
from steps.request_finetune import request_finetune

STEPS: Mapping[str, tuple[BaseStep, BaseStep]] = {
    "adapt": (request_adapt, collect_adapted),
    "finetune": (request_finetune, collect_finetuned),
}


def node_step_ids(identity: str) -> tuple[str, str]:
    """Names of the two steps before ``identity``: the request, and the pods."""
    return f"request_{identity}", f"{identity}_on_nodes"


def trained(
    stage: BaseStep,
    run: TrainingSettings | AdaptationSettings,
    identity: str | None = None,
    after: str | None = None,
    **inputs: Any,
) -> Any:
    """The model that a stage gives: trained in its own step, or in the pods of several machines.

    Args:
        stage: the step ``adapt`` or ``finetune``.
        run: settings of the whole run; ``launch`` says how many machines.
        identity: name of the step that gives the model; by default the stage's.
        after: a step that must have passed.
        inputs: of the stage's step, artifacts and settings.

    Raises:
        ConfigError: several machines, and a stack that cannot run several pods.
    """
    name = identity or stage.name
    order = {} if after is None else {"after": after}
    if run.launch.nodes == 1:
        return for_stack(stage)(**inputs, launch=run.launch, id=name, **order)
    return _on_nodes(stage.name, name, run.launch, run.model_dump(mode="json"), {**inputs, **order})


def _on_nodes(
    stage: str, identity: str, launch: LaunchSettings, configuration: Any, inputs: Mapping[str, Any]
) -> Any:
    """The model that pods have trained.

    Args:
        stage: ``adapt`` or ``finetune``.
        identity: name of the step that gives the model, as if it had been trained there.
        launch: with ``nodes`` above 1.
        configuration: of the whole run; with ``identity`` it names the request on the volume, so that the
            same command finds it again.
        inputs: of the step that asks.
    """
    if not Client().active_stack_model.components.get(StackComponentType.STEP_OPERATOR):
        raise ConfigError(
            f"launch.nodes is {launch.nodes}, and the active stack has no step operator to run so many pods; "
            "use the stack llara-kubernetes, or launch.nodes: 1 with launch.processes on one machine"
        )
    ask, take = STEPS[stage]
    asking, training = node_step_ids(identity)
    content = json.dumps([identity, configuration], sort_keys=True)
    name = f"{identity}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    request = for_stack(ask)(**inputs, launch=launch, name=name, id=asking)
    pods = CommandStep(
        command=["python", "-m", "llara_core.training.nodes", name],
        name=training,
        step_operator=True,
        settings={"step_operator.kubernetes": {"pod_count": launch.nodes}},
    )
    pods(id=training, after=asking)
    return for_stack(take)(request=request, name=name, id=identity, after=training)
