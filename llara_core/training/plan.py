"""Memory, time, cost and disk of a run, before anything is downloaded or started.

Source: issue 3, point 10.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llara_core.config import (
    AdaptationSettings,
    AdaptSettings,
    FinetuneSettings,
    LoraSettings,
    ModelSettings,
    OptimizerSettings,
    TrainingSettings,
)
from llara_core.errors import ConfigError
from llara_core.model.loading import DTYPES
from llara_core.training.plan_batches import Subject
from llara_core.training.plan_gpus import Device, device_names, find_device
from llara_core.training.plan_memory import Largest, Placement, largest_micro_batch, place
from llara_core.training.plan_model import PlanEncoder, model_config
from llara_core.training.plan_stages import rehearse_stage

logger = logging.getLogger(__name__)

VECTOR_BYTES = 4  # float32, as `llara encode` writes them
MORE_DEVICES = (2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class StagePlan:
    """A stage.

    Args:
        name: ``adapt`` or ``finetune``.
        settings: of the stage.
        placement: its memory on each device.
        largest: the most that a micro-batch can hold; None: not looked for.
        flops: of one step, over all devices, as executed.
        seconds: of all steps.
        cost: in the price's currency; None without a price.
        checkpoints: bytes on disk while it runs.
        would_fit: what to change, each line by itself enough; empty where it fits.
    """

    name: str
    settings: OptimizerSettings
    placement: Placement
    largest: Largest | None
    flops: float
    seconds: float
    cost: float | None
    checkpoints: float
    would_fit: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """A run.

    Args:
        model: settings of the model.
        parameters: of the model, without adapters.
        device: what it runs on.
        count: how many of them.
        price: of one device's hour, if given.
        mean_length: tokens of every text, if given.
        documents: to be encoded; None: not known.
        vectors: bytes of their vectors.
        bundles: bytes of the models that the stages write.
        stages: those that have steps.
    """

    model: ModelSettings
    parameters: int
    device: Device
    count: int
    price: float | None
    mean_length: int | None
    documents: int | None
    vectors: float | None
    bundles: float
    stages: tuple[StagePlan, ...]

    @property
    def fits(self) -> bool:
        """Whether every stage does."""
        return all(stage.placement.fits for stage in self.stages)


@dataclass(frozen=True)
class Request:
    """What is asked about a run.

    Args:
        device: what it runs on.
        count: how many of them.
        price: of one device's hour.
        documents: to be encoded.
        mean_length: tokens of a text on average, for the time; memory is planned for the longest.
        model_config: a ``config.json``, for a model that is not at hand.
        search: look for the largest micro-batch, and for what would fit.
    """

    device: Device
    count: int = 1
    price: float | None = None
    documents: int | None = None
    mean_length: int | None = None
    model_config: Path | None = None
    search: bool = True


def plan_run(settings: TrainingSettings | AdaptationSettings, request: Request) -> Plan:
    """Plan every stage of a run.

    Args:
        settings: of the training pipeline or of the adaptation pipeline.
        request: devices and prices.

    Raises:
        ConfigError: nothing is known of the model.
        ModelError: it is no decoder.
    """
    config = model_config(settings.model, request.model_config)
    encoder = PlanEncoder(settings.model)
    subject = Subject(settings.model, config, encoder, request.device.kind, request.count)
    stages = []
    for name in ("adapt", "finetune"):
        stage = getattr(settings, name, None)
        if stage is not None and stage.steps:
            logger.info("planning %s", name)
            stages.append(_plan_stage(name, stage, subject, request))
    parameters = _parameters(subject)
    width = int(config.get_text_config().hidden_size)
    documents = request.documents
    return Plan(
        model=settings.model,
        parameters=parameters,
        device=request.device,
        count=request.count,
        price=request.price,
        mean_length=request.mean_length,
        documents=documents,
        vectors=None if documents is None else float(documents) * width * VECTOR_BYTES,
        # The base bundle, and one more for every stage.
        bundles=float(parameters) * DTYPES[settings.model.dtype].itemsize * (1 + len(stages)),
        stages=tuple(stages),
    )


def _parameters(subject: Subject) -> int:
    import torch

    from llara_core.training.plan_model import build_model

    with torch.device("meta"):
        return sum(weights.numel() for weights in build_model(subject.config, torch.float32).parameters())


def _plan_stage(
    name: str, settings: AdaptSettings | FinetuneSettings, subject: Subject, request: Request
) -> StagePlan:
    device, count = request.device, request.count
    placement = place(subject, settings, device)
    rehearsal = placement.rehearsal
    if request.mean_length is not None:
        rehearsal = rehearse_stage(subject, settings, request.mean_length)
    seconds = settings.steps * rehearsal.flops / _speed(settings, subject.model, device)
    bytes_trained = rehearsal.optimizer / 2 + rehearsal.optimizer
    return StagePlan(
        name=name,
        settings=settings,
        placement=placement,
        largest=largest_micro_batch(subject, settings, device) if request.search else None,
        flops=rehearsal.flops * count,
        seconds=seconds,
        cost=None if request.price is None else seconds / 3600 * count * request.price,
        # A new one is written whole before the oldest is removed.
        checkpoints=(settings.keep_checkpoints + 1) * bytes_trained if settings.checkpoint_every else 0.0,
        would_fit=()
        if placement.fits or not request.search
        else tuple(_remedies(settings, subject, request)),
    )


def _speed(settings: OptimizerSettings, model: ModelSettings, device: Device) -> float:
    """FLOP/s that one device is assumed to reach."""
    bfloat16 = settings.mixed_precision == "bf16" or model.dtype == "bfloat16"
    return device.peak(bfloat16=bfloat16) * device.utilisation


def _remedies(settings: AdaptSettings | FinetuneSettings, subject: Subject, request: Request) -> list[str]:
    """What would fit: single changes first, then all savings together, more devices, other devices."""
    found = [
        words
        for words, changed, model in _savings(settings, subject)
        if place(replace(subject, model=model), changed, request.device).fits
    ]
    found += _with_more_devices(settings, subject, request)
    found += _on_other_devices(settings, subject, request)
    return found


def _savings(settings: Any, subject: Subject) -> list[tuple[str, Any, ModelSettings]]:
    """Changed settings that take less memory, in words and as settings; the last are several at once."""
    encoder = subject.encoder
    one_row = sum(map(len, (encoder.prefix_ids, encoder.ebae_suffix_ids, encoder.ebar_suffix_ids)))
    one_row += getattr(settings, "text_length", encoder.lengths["passage"])
    half = subject.model.model_copy(update={"dtype": "bfloat16"})
    small: dict[str, Any] = {"micro_batch_tokens": one_row}
    if isinstance(settings, FinetuneSettings):
        small["gradient_cache"] = True
    recompute = {"gradient_checkpointing": True}
    adapters = settings.lora or LoraSettings()
    packed = adapters.model_copy(update={"quantization": "nf4"})
    steps: list[tuple[dict[str, Any], ModelSettings]] = [
        (small, subject.model),
        (recompute, subject.model),
        (small | recompute, subject.model),
        ({"lora": adapters}, half),
        (small | recompute | {"lora": adapters}, half),
        (small | recompute | {"lora": packed}, half),
    ]
    savings = []
    for changes, model in steps:
        changed = settings.model_copy(update=changes)
        if changed != settings or model != subject.model:
            savings.append((_in_words(changes, model, subject.model), changed, model))
    return savings


def _in_words(changes: dict[str, Any], model: ModelSettings, before: ModelSettings) -> str:
    words = []
    for key, value in changes.items():
        if key == "lora":
            packed = value.quantization == "nf4"
            words.append(f"lora (rank {value.rank}{', quantization nf4: QLoRA' if packed else ''})")
        else:
            words.append(f"{key}: {str(value).lower() if isinstance(value, bool) else value}")
    if model.dtype != before.dtype:
        words.append(f"model.dtype: {model.dtype}")
    return ", ".join(words)


def _with_more_devices(settings: Any, subject: Subject, request: Request) -> list[str]:
    for count in MORE_DEVICES:
        if count > request.count:
            placement = place(replace(subject, processes=count), settings, request.device)
            if placement.fits:
                return [f"--count {count}: {placement.layout}"]
    return []


def _on_other_devices(settings: Any, subject: Subject, request: Request) -> list[str]:
    """The smallest device of the table that holds the stage as it is."""
    others = [find_device(name) for name in device_names() if name not in ("cpu", request.device.name)]
    larger = sorted((one for one in others if one.memory > request.device.memory), key=lambda one: one.memory)
    if not larger:
        return []
    widest = place(replace(subject, device=larger[-1].kind), settings, larger[-1])
    if not widest.fits:
        return []
    for device in larger:
        # One device's layout is the same on all of them; several may hold replicas where memory allows.
        alone = request.count == 1 and widest.total <= device.usable
        if alone or (request.count > 1 and place(subject, settings, device).fits):
            return [f"--gpu {device.name}: {device.title}"]
    return []


def parse_plan_settings(values: dict[str, Any], where: str) -> TrainingSettings | AdaptationSettings:
    """Settings of either pipeline: that of adaptation alone has ``text`` in place of a collection.

    Raises:
        ConfigError: a key or a value is unusable.
    """
    if "text" in values and "collection" not in values:
        return AdaptationSettings.parse(values, where)
    return TrainingSettings.parse(values, where)


def check_count(count: int, device: Device) -> None:
    """Refuse a count that makes no sense.

    Raises:
        ConfigError: several CPUs.
    """
    if device.name == "cpu" and count > 1:
        raise ConfigError(f"--count {count}: this machine's CPU is one device; give --gpu NAME")
