"""The training pipeline: raw text in, a judged and registered retriever out. Wiring only."""

from __future__ import annotations

from typing import Any

from zenml import pipeline
from zenml.enums import ExecutionMode

from llara_core.config import REGISTRY, TrainingSettings
from pipelines.checked import checked
from pipelines.on_nodes import node_step_ids, trained
from pipelines.options import for_stack, readable_errors
from steps.accept import accept
from steps.adapt import adapt
from steps.audit import audit
from steps.data_report import data_report
from steps.duplicates import duplicates
from steps.evaluate import evaluate
from steps.finetune import finetune
from steps.gauge import gauge
from steps.hooks import HOOKS
from steps.identify import identify
from steps.ingest import ingest
from steps.leaks import leaks
from steps.mine import mine
from steps.prepare import prepare
from steps.promote import promote
from steps.recall import recall
from steps.register import register
from steps.report import report
from steps.resolve import resolve
from steps.segment import segment
from steps.validate import validate
from steps.validate_negatives import validate_negatives

STEPS = (
    "identify", "ingest", "recall", "validate", "duplicates", "leaks", "data_report", "accept", "segment",
    "prepare", "adapt", "mine", "audit", "validate_mine", "finetune", "finetune_without_adaptation",
    "evaluate", "register", "gauge", "promote", "report", "resolve",
)  # fmt: skip
REPEATED = ("mine", "audit", "validate_mine", "finetune")  # once a round


def round_id(step: str, number: int) -> str:
    """Name of a repeated step in a round, counted from 1; the first bears the step's own name."""
    return step if number == 1 else f"{step}_round_{number}"


def step_names(settings: TrainingSettings) -> tuple[str, ...]:
    """Names of all steps that a run with these settings may have."""
    rounds = range(2, settings.mine.rounds + 1)
    names = (*STEPS, *(round_id(step, number) for number in rounds for step in REPEATED))
    if settings.launch.nodes == 1:
        return names
    stages = [name for name in names if name.startswith(("adapt", "finetune"))]
    return (*names, *(extra for stage in stages for extra in node_step_ids(stage)))


@checked(step_names, TrainingSettings)
@pipeline(name="training", execution_mode=ExecutionMode.FAIL_FAST, **HOOKS)
@readable_errors
def training_pipeline(  # noqa: PLR0913, PLR0917 - the fields of TrainingSettings
    seed: int = 0,
    collection: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
    adapt: dict[str, Any] | None = None,
    mine: dict[str, Any] | None = None,
    finetune: dict[str, Any] | None = None,
    launch: dict[str, Any] | None = None,
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
    seed = settings.seed
    collection, leaked = data_steps(settings)
    passages = for_stack(segment)(collection=collection, leaks=leaked)
    start: dict[str, Any] = {}
    if settings.model.base is not None and settings.model.base.startswith(REGISTRY):
        start["reference"] = for_stack(resolve)(reference=settings.model.base)
    base = for_stack(prepare)(collection=collection, settings=settings.model, seed=seed, **start)
    adapted = trained(adapt, settings, base=base, passages=passages, settings=settings.adapt, seed=seed)
    negatives, finetuned = _rounds(settings, collection, adapted)
    models = {"base": base, "adapted": adapted, "finetuned": finetuned}
    # With no steps of its own the run starts from an adapted model: there is no unadapted one to compare.
    if settings.evaluate.without_adaptation and settings.adapt.steps:
        models["finetuned_without_adaptation"] = trained(
            finetune, settings, "finetune_without_adaptation", after="validate_mine",
            start=base, collection=collection, negatives=negatives[0], settings=settings.finetune, seed=seed,
        )  # fmt: skip
    comparison = for_stack(evaluate)(
        collection=collection, leaks=leaked, negatives=negatives[-1], settings=settings.evaluate, **models
    )
    configuration = settings.model_dump(mode="json", exclude={"promote"})
    judged = {"comparison": comparison, "leaks": leaked}
    unadapted = models.get("finetuned_without_adaptation")
    registration = for_stack(register)(
        model=finetuned, name=settings.registry.model_name, configuration=configuration,
        choosing=settings.promote.choosing, **judged,
        **({} if unadapted is None else {"unadapted": unadapted}),
    )  # fmt: skip
    evidence = for_stack(gauge)(
        registration=registration, collection=collection, settings=settings.promote,
        evaluation=settings.evaluate, **judged,
    )  # fmt: skip
    promotion = for_stack(promote)(registration=registration, evidence=evidence, settings=settings.promote)
    for_stack(report)(comparison=comparison, configuration=configuration, promotion=promotion)


def data_steps(settings: TrainingSettings) -> tuple[Any, Any]:
    """Read, judge and accept the data; returns the collection and what leaks in it.

    The page is made before ``accept``, so that it is there when a gate says stop. The retraining looks at
    what these steps give, so that a training which follows finds them in the cache.
    """
    told = settings.collection
    lengths = {key: getattr(settings.model, key) for key in ("passage_length", "query_length")}
    fingerprint = for_stack(identify)(settings=settings)
    ingested = for_stack(ingest)(source_fingerprint=fingerprint, settings=told.reading)
    previous = for_stack(recall)(ingested=ingested)
    for_stack(validate)(ingested=ingested, previous=previous, **lengths)
    repeats = for_stack(duplicates)(ingested=ingested, settings=told.duplicates, after="validate")
    leaked = for_stack(leaks)(
        ingested=ingested, settings=told.leaks, split=settings.evaluate.split,
        train_split=settings.evaluate.train_split, after="validate",
    )  # fmt: skip
    facts = {"ingested": ingested, "duplicates": repeats, "leaks": leaked}
    for_stack(data_report)(**facts, previous=previous)
    return for_stack(accept)(**facts, after="data_report"), leaked


def _rounds(settings: TrainingSettings, collection: Any, adapted: Any) -> tuple[list[Any], Any]:
    """Mine and fine-tune, round by round; returns the negatives of every round, and the last round's model.

    Each round after the first mines with the model that the one before has fine-tuned, and fine-tunes the
    adapted model anew: what a model finds hard changes as it learns, but what it learnt on easier
    negatives shall not stay in its weights (issue 4, point 4).
    """
    # How many rounds there are is the pipeline's business; a step that was told would miss its cache.
    mining = settings.mine.model_copy(update={"rounds": 1})
    rounds: list[Any] = []
    finetuned = adapted
    lengths = {key: getattr(settings.model, key) for key in ("passage_length", "query_length")}
    for number in range(1, settings.mine.rounds + 1):
        negatives = for_stack(mine)(
            collection=collection, model=finetuned, settings=mining, bm25=settings.evaluate.bm25,
            seed=settings.seed, id=round_id("mine", number),
        )  # fmt: skip
        for_stack(audit)(negatives=negatives, id=round_id("audit", number))
        gate = round_id("validate_mine", number)
        for_stack(validate_negatives)(collection=collection, negatives=negatives, id=gate, **lengths)
        finetuned = trained(
            finetune, settings, round_id("finetune", number), after=gate,
            start=adapted, collection=collection, negatives=negatives,
            settings=settings.finetune, seed=settings.seed,
        )  # fmt: skip
        rounds.append(negatives)
    return rounds, finetuned
