"""How a stage's memory lies on one device or many, whether it fits, and the most that does.

* Weights, gradients and Adam's two moments take 4 + 4 + 8 = 16 bytes a trained parameter in float32 (ZeRO,
  arXiv 1910.02054, section 3.1); frozen ones only their weight: 4 bytes, 2 in bfloat16, 0.52 in nf4.
* Replicas (DDP): every device holds everything, and the buckets in which gradients travel once more.
* Shares (FSDP 2): weights, gradients and moments are divided by the number of devices; two layers and what is
  outside the layers (embeddings and head) lie gathered on each, with their gradients in the backward pass.

Source: issue 3, point 10; activations and temporary memory come from ``plan_rehearsal``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from llara_core.config import AdaptSettings, FinetuneSettings, OptimizerSettings
from llara_core.model.loading import DTYPES
from llara_core.training.plan_batches import Subject
from llara_core.training.plan_gpus import Device
from llara_core.training.plan_model import build_model
from llara_core.training.plan_rehearsal import (
    ACTIVATIONS,
    GRADIENTS,
    LOGITS,
    OPTIMIZER,
    TEMPORARY,
    WEIGHTS,
    Bytes,
    Rehearsal,
)
from llara_core.training.plan_stages import rehearse_stage

# nf4 stores 4 bits a weight, an 8-bit scale for every 64 and a float32 one for every 256 of those scales
# (double quantisation: QLoRA, arXiv 2305.14314, section 3).
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
MOST_TRIES = 4  # placements to find the largest micro-batch
GATHERED_LAYERS = 2  # the one that computes and the one that is fetched meanwhile
ONE, REPLICAS, SHARES = "one device", "replicas (DDP)", "shares (FSDP)"
MOMENT_NAMES = ("end of the forward pass", "start of the backward pass", "end of the backward pass")


@dataclass(frozen=True)
class Placement:
    """A stage on its devices.

    Args:
        layout: ``one device``, ``replicas (DDP)`` or ``shares (FSDP)``.
        parts: bytes on each device by kind, at the worst moment.
        moment: which moment that is.
        usable: bytes that a device has for tensors.
        rehearsal: of one process's share of a step.
    """

    layout: str
    parts: Bytes
    moment: str
    usable: float
    rehearsal: Rehearsal

    @property
    def total(self) -> float:
        """Bytes on each device."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether that is no more than a device has."""
        return self.total <= self.usable


def place(
    subject: Subject, settings: OptimizerSettings, device: Device, mean_length: int | None = None
) -> Placement:
    """The stage on ``subject.processes`` devices: replicas if they fit, else shares.

    Args:
        subject: what is planned.
        settings: of the stage.
        device: each of the devices.
        mean_length: as in ``plan_stages.rehearse_stage``.
    """
    whole = _quantised(rehearse_stage(subject, settings, mean_length), subject, settings)
    if subject.processes == 1:
        return _placed(ONE, whole, whole.moments, whole.optimizer, device)
    buckets = [_with(moment, TEMPORARY, whole.gradients) for moment in whole.moments]
    replicas = _placed(REPLICAS, whole, buckets, whole.optimizer, device)
    nf4 = settings.lora is not None and settings.lora.quantization == "nf4"
    if replicas.fits or device.kind == "cpu" or nf4:
        return replicas
    return _shares(subject, settings, device, whole, mean_length)


def _placed(layout: str, rehearsal: Rehearsal, moments: Any, optimizer: float, device: Device) -> Placement:
    worst = max(range(len(moments)), key=lambda number: sum(moments[number].values()))
    parts = {**moments[worst], OPTIMIZER: optimizer}
    return Placement(layout, parts, MOMENT_NAMES[worst], device.usable, rehearsal)


def _with(moment: Bytes, kind: str, more: float) -> Bytes:
    return {**moment, kind: moment[kind] + more}


def _quantised(rehearsal: Rehearsal, subject: Subject, settings: OptimizerSettings) -> Rehearsal:
    """With nf4, linear layers shrink, and the largest lies unpacked while it computes."""
    if settings.lora is None or settings.lora.quantization == "none":
        return rehearsal
    size = _size(subject)
    matrices = _matrices(subject)
    saved = sum(matrices) * (size - NF4_BYTES)
    moments = [
        _with(_with(moment, WEIGHTS, -saved), TEMPORARY, max(matrices) * size) for moment in rehearsal.moments
    ]
    return replace(rehearsal, moments=(moments[0], moments[1], moments[2]))


def _shares(
    subject: Subject,
    settings: OptimizerSettings,
    device: Device,
    whole: Rehearsal,
    mean_length: int | None,
) -> Placement:
    count = subject.processes
    mixed = settings.mixed_precision == "bf16"
    # Under FSDP weights are gathered in the dtype that computes; autocast has nothing left to convert.
    working = replace(subject, whole_bfloat16=True) if mixed else subject
    found = rehearse_stage(working, settings, mean_length) if mixed else whole
    layer, outside = _units(subject)
    gathered = (GATHERED_LAYERS * layer + outside) * (2 if mixed else _size(subject))
    weights = whole.moments[0][WEIGHTS] / count
    moments = []
    for number, moment in enumerate(found.moments):
        backward = gathered * whole.trained / whole.parameters if number else 0.0
        moments.append(
            {
                WEIGHTS: weights,
                GRADIENTS: whole.moments[number][GRADIENTS] / count,
                ACTIVATIONS: moment[ACTIVATIONS],
                LOGITS: moment[LOGITS],
                TEMPORARY: moment[TEMPORARY] + gathered + backward,
            }
        )
    return _placed(SHARES, whole, moments, whole.optimizer / count, device)


def _size(subject: Subject) -> int:
    return DTYPES[subject.model.dtype].itemsize


def _skeleton(subject: Subject) -> Any:
    with torch.device("meta"):
        return build_model(subject.config, torch.float32)


def _matrices(subject: Subject) -> list[int]:
    """Sizes of the linear layers but the head, which nf4 leaves as it is."""
    model = _skeleton(subject)
    head = model.get_output_embeddings()
    return [
        part.weight.numel()
        for part in model.modules()
        if isinstance(part, torch.nn.Linear) and part is not head
    ]


def _units(subject: Subject) -> tuple[int, int]:
    """Parameters of the largest layer, and of all that is outside the layers."""
    model = _skeleton(subject)
    stacks = [part for part in model.modules() if isinstance(part, torch.nn.ModuleList)]
    layers: Any = max(stacks, key=len)
    sizes = [sum(weights.numel() for weights in layer.parameters()) for layer in layers]
    return max(sizes), sum(weights.numel() for weights in model.parameters()) - sum(sizes)


@dataclass(frozen=True)
class Largest:
    """The most that one pass can hold.

    Args:
        rows: rows of full length of a micro-batch; of a contrastive step without gradient cache, queries of a
            whole share, since each needs all passages.
        tokens: what to set ``micro_batch_tokens`` to; None: the rows are queries, ``batch_size`` bounds them.
        all_of_it: a process's whole share fits into one pass.
    """

    rows: int
    tokens: int | None
    all_of_it: bool


def largest_micro_batch(subject: Subject, settings: OptimizerSettings, device: Device) -> Largest:
    """The largest micro-batch that fits; ``rows`` 0 if not even the smallest does.

    Memory grows with the rows in a straight line but for the bend where the worst moment changes, so a line
    through two sizes is followed, and its answer is placed and corrected.

    Args:
        subject: what is planned.
        settings: of the stage.
        device: each of the devices.
    """
    encoder = subject.encoder
    share = -(-settings.batch_size // subject.processes)
    cached = isinstance(settings, FinetuneSettings) and settings.gradient_cache
    if isinstance(settings, AdaptSettings):
        width = len(encoder.prefix_ids) + settings.text_length
        width += len(encoder.ebae_suffix_ids) + len(encoder.ebar_suffix_ids)
    else:
        width = len(encoder.prefix_ids) + encoder.lengths["passage"] + len(encoder.ebae_suffix_ids)
    by_tokens = isinstance(settings, AdaptSettings) or cached
    if isinstance(settings, FinetuneSettings) and cached:
        share *= settings.positives + settings.hard_negatives

    def at(rows: int) -> Placement:
        if by_tokens:
            changed: dict[str, Any] = {"micro_batch_tokens": rows * width}
        else:
            changed = {"batch_size": rows * subject.processes}
        return place(subject, settings.model_copy(update=changed), device)

    rows = _most(at, share, device)
    return Largest(rows, rows * width if by_tokens else None, by_tokens and rows >= share)


def _most(at: Any, limit: int, device: Device) -> int:
    """The most rows for which ``at(rows)`` fits, up to ``limit``; a bisection led by straight lines."""
    low, below = 1, at(1)
    if not below.fits:
        return 0
    if limit == 1:
        return 1
    high, above = limit, at(limit)
    if above.fits:
        return limit
    for _ in range(MOST_TRIES):
        if high - low <= max(1, low // 50):  # within 2%
            break
        slope = (above.total - below.total) / (high - low)
        guess = low + int((device.usable - below.total) / max(slope, 1.0))
        guess = min(max(guess, low + 1), high - 1)
        tried = at(guess)
        if tried.fits:
            low, below = guess, tried
        else:
            high, above = guess, tried
    return low
