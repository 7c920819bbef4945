"""The training pipeline: raw text in, a judged and registered retriever out. Wiring only."""

from __future__ import annotations

from typing import Any

from zenml import pipeline
from zenml.enums import ExecutionMode

from llara_core.config import REGISTRY, TrainingSettings
from pipelines.options import for_stack, readable_errors
from steps.adapt import adapt
from steps.evaluate import evaluate
from steps.finetune import finetune
from steps.identify import identify
from steps.ingest import ingest
from steps.mine import mine
from steps.prepare import prepare
from steps.promote import promote
from steps.register import register
from steps.report import report
from steps.resolve import resolve
from steps.segment import segment
from steps.validate import validate

STEPS = (
    "identify", "ingest", "validate", "segment", "prepare", "adapt", "mine", "finetune",
    "finetune_without_adaptation", "evaluate", "report", "register", "promote", "resolve",
)  # fmt: skip


@pipeline(name="training", execution_mode=ExecutionMode.FAIL_FAST)
@readable_errors
def training_pipeline(  # noqa: PLR0913, PLR0917 - the fields of TrainingSettings
    seed: int = 0,
    collection: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
    adapt: dict[str, Any] | None = None,
    mine: dict[str, Any] | None = None,
    finetune: dict[str, Any] | None = None,
    evaluate: dict[str, Any] | None = None,
    registry: dict[str, Any] | None = None,
    promote: dict[str, Any] | None = None,
) -> None:
    """Ingest, validate, adapt, mine, fine-tune, evaluate, register, promote.

    The parameters are the fields of ``llara_core.config.TrainingSettings``, as plain values.

    Raises:
        ConfigError: a setting is unknown or out of range; names the nearest known one.
    """
    given = dict(locals())
    _wire(TrainingSettings.parse({key: value for key, value in given.items() if value is not None}, ""))


def _wire(settings: TrainingSettings) -> None:
    """Connect the steps; each gets only the settings it uses, so that its cache is exact.

    Every step has one output: ZenML's cache key goes by the order of the outputs, which changes from
    process to process when there are several.
    """
    seed, bm25 = settings.seed, settings.evaluate.bm25
    tuning = {"settings": settings.finetune, "seed": seed}

    fingerprint = for_stack(identify)(settings=settings)
    collection = for_stack(ingest)(source_fingerprint=fingerprint, settings=settings.collection)
    for_stack(validate)(collection=collection)
    passages = for_stack(segment)(collection=collection, after="validate")
    start: dict[str, Any] = {}
    if settings.model.base is not None and settings.model.base.startswith(REGISTRY):
        start["reference"] = for_stack(resolve)(reference=settings.model.base)
    base = for_stack(prepare)(
        collection=collection, settings=settings.model, seed=seed, after="validate", **start
    )
    adapted = for_stack(adapt)(base=base, passages=passages, settings=settings.adapt, seed=seed)
    negatives = for_stack(mine)(
        collection=collection, model=adapted, settings=settings.mine, bm25=bm25, seed=seed
    )
    data = {"collection": collection, "negatives": negatives}
    finetuned = for_stack(finetune)(start=adapted, **data, **tuning)
    models = {"base": base, "adapted": adapted, "finetuned": finetuned}
    # With no steps of its own the run starts from an adapted model: there is no unadapted one to compare.
    if settings.evaluate.without_adaptation and settings.adapt.steps:
        models["finetuned_without_adaptation"] = for_stack(finetune)(
            start=base, **data, **tuning, id="finetune_without_adaptation"
        )
    comparison = for_stack(evaluate)(
        collection=collection, negatives=negatives, settings=settings.evaluate, **models
    )
    configuration = settings.model_dump(mode="json", exclude={"promote"})
    for_stack(report)(comparison=comparison, configuration=configuration)
    registration = for_stack(register)(
        model=finetuned, comparison=comparison, name=settings.registry.model_name, configuration=configuration
    )
    for_stack(promote)(registration=registration, collection=collection, settings=settings.promote)
