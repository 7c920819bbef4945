"""The adaptation pipeline: unlabelled text in, a registered model to start training from out. Wiring only."""

from __future__ import annotations

from typing import Any

from zenml import pipeline
from zenml.enums import ExecutionMode

from llara_core.config import REGISTRY, AdaptationSettings
from pipelines.checked import checked
from pipelines.on_nodes import node_step_ids, trained
from pipelines.options import for_stack, readable_errors
from steps.adapt import adapt
from steps.hold_out import hold_out
from steps.hooks import HOOKS
from steps.identify_text import identify_text
from steps.ingest_text import ingest_text
from steps.judge_adaptation import judge_adaptation
from steps.prepare import prepare
from steps.promote_adapted import promote_adapted
from steps.register_adapted import register_adapted
from steps.resolve import resolve
from steps.segment import segment

STEPS = (
    "identify_text", "ingest_text", "segment", "training_passages", "held_out_passages", "resolve", "prepare",
    "adapt", "judge_adaptation", "register_adapted", "promote_adapted",
)  # fmt: skip


def step_names(settings: AdaptationSettings) -> tuple[str, ...]:
    """Names of all steps that a run with these settings may have."""
    return STEPS if settings.launch.nodes == 1 else (*STEPS, *node_step_ids("adapt"))


@checked(step_names, AdaptationSettings)
@pipeline(name="adaptation", execution_mode=ExecutionMode.FAIL_FAST, **HOOKS)
@readable_errors
def adaptation_pipeline(
    seed: int = 0,
    text: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
    adapt: dict[str, Any] | None = None,
    launch: dict[str, Any] | None = None,
    registry: dict[str, Any] | None = None,
) -> None:
    """Ingest text, hold some of it out, adapt, judge on what was held out, register, promote.

    The parameters are the fields of ``llara_core.config.AdaptationSettings``, as plain values.

    Raises:
        ConfigError: a setting is unknown or out of range; names the nearest known one.
    """
    given = dict(locals())
    _wire(AdaptationSettings.parse({key: value for key, value in given.items() if value is not None}, ""))


def _wire(settings: AdaptationSettings) -> None:
    """Connect the steps; as in the training pipeline each has one output and only the settings it uses."""
    seed = settings.seed
    fingerprint = for_stack(identify_text)(settings=settings)
    text = for_stack(ingest_text)(text_fingerprint=fingerprint, settings=settings.text)
    passages = for_stack(segment)(collection=text)
    split = {"passages": passages, "count": settings.text.held_out}
    training = for_stack(hold_out)(**split, part="training", id="training_passages")
    held_out = for_stack(hold_out)(**split, part="held_out", id="held_out_passages")
    start: dict[str, Any] = {}
    if settings.model.base is not None and settings.model.base.startswith(REGISTRY):
        start["reference"] = for_stack(resolve)(reference=settings.model.base)
    base = for_stack(prepare)(collection=text, settings=settings.model, seed=seed, **start)
    adapted = trained(adapt, settings, base=base, passages=training, settings=settings.adapt, seed=seed)
    judgement = for_stack(judge_adaptation)(
        base=base, adapted=adapted, held_out=held_out, settings=settings.adapt, seed=seed
    )
    registration = for_stack(register_adapted)(
        model=adapted,
        text=text,
        judgement=judgement,
        name=settings.registry.model_name,
        configuration=settings.model_dump(mode="json"),
    )
    for_stack(promote_adapted)(registration=registration)
