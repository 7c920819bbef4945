"""The two stages as a plan sees them: rows of the longest length, and the step that works on them.

Batches are cut by the stages' own code (``plan_batches``), and the objectives are the stages' own too.

Source: issue 3, point 10.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from llara_core.config import AdaptSettings, FinetuneSettings, OptimizerSettings
from llara_core.model.adapters import trainable_model
from llara_core.model.loading import DTYPES
from llara_core.training.blockwise import BLOCK_SCORES
from llara_core.training.contrastive import ContrastiveObjective
from llara_core.training.objectives import AdaptationObjective, choose_attention
from llara_core.training.plan_batches import Subject, adaptation_parts, finetuning_part
from llara_core.training.plan_model import SLOT, build_model
from llara_core.training.plan_rehearsal import ACTIVATIONS, LOGITS, Bytes, Rehearsal, rehearse
from llara_core.training.sub_batches import sub_batch_tokens

# A model of more layers than this is rehearsed with few of them; its figures are linear in their number.
MANY_LAYERS = 6
FEW_LAYERS = (2, 4)
# A contrastive step of more full sub-batches than this is rehearsed with few.
MANY_SUB_BATCHES = 6
# Matrices [queries, passages] alive at once in the loss: the scores, the masked ones, their log-softmax and
# its gradient (``contrastive.info_nce``).
SCORES_ALIVE = 4


def rehearse_stage(
    subject: Subject, settings: OptimizerSettings, mean_length: int | None = None
) -> Rehearsal:
    """One process's share of the longest step of a stage, without numbers.

    Layers are alike, and so are the sub-batches of a contrastive step: where there are many, two smaller
    sizes are rehearsed and every figure is carried on in a straight line.

    Args:
        subject: what is planned.
        settings: of adaptation or of fine-tuning.
        mean_length: tokens of every text instead of the longest that the settings allow.

    Returns:
        The rehearsal; ``flops`` and ``positions`` are those of a mean step where steps differ in length.
    """
    layers = int(subject.config.get_text_config().num_hidden_layers)
    if layers <= MANY_LAYERS or not _alike(subject.config):
        return _rehearse_sizes(subject, settings, mean_length)
    few, more = (
        _rehearse_sizes(replace(subject, config=with_layers(subject.config, count)), settings, mean_length)
        for count in FEW_LAYERS
    )
    return few.combine(_line(*FEW_LAYERS, layers), more)


def _rehearse_sizes(subject: Subject, settings: OptimizerSettings, mean_length: int | None) -> Rehearsal:
    if isinstance(settings, AdaptSettings):
        return _rehearse_adaptation(subject, settings, mean_length)
    if not isinstance(settings, FinetuneSettings):
        raise TypeError(f"settings of a stage expected, got {type(settings).__name__}")
    share = math.ceil(settings.batch_size / subject.processes)
    rows = _rows_together(subject, settings, mean_length)
    each = settings.positives + settings.hard_negatives
    if rows is None or share * each <= MANY_SUB_BATCHES * rows:
        found = _rehearse_finetuning(subject, settings, mean_length)
        known = (share, share * each)
    else:
        found = _few_sub_batches(subject, settings, mean_length, rows, (share, share * each))
        known = (0, 0)
    return _with_scores(found, subject, settings, known)


def _line(first: float, second: float, wanted: float) -> Callable[[float, float], float]:
    """Carries a figure known at two sizes on to a third."""
    share = (wanted - first) / (second - first)
    return lambda at_first, at_second: at_first + share * (at_second - at_first)


def _rows_together(subject: Subject, settings: FinetuneSettings, mean_length: int | None) -> int | None:
    """Passages of a sub-batch; None: all, or more kinds of rows than queries and passages."""
    most = sub_batch_tokens(settings)
    if most is None or settings.span_pairs:
        return None
    encoder = subject.encoder
    words = min(mean_length or encoder.lengths["passage"], encoder.lengths["passage"])
    return max(1, most // (len(encoder.prefix_ids) + words + len(encoder.ebae_suffix_ids)))


def _few_sub_batches(
    subject: Subject,
    settings: FinetuneSettings,
    mean_length: int | None,
    rows: int,
    wanted: tuple[int, int],
) -> Rehearsal:
    """A step of many equal sub-batches, from three of few: every figure is linear in queries and passages.

    Args:
        subject: what is planned.
        settings: of the stage.
        mean_length: of every text, if not the longest.
        rows: passages of a full sub-batch, R.
        wanted: queries and passages of the process's share.
    """

    def with_sizes(queries: int, each: int) -> Rehearsal:
        sizes = {"batch_size": queries, "positives": 1, "hard_negatives": each - 1}
        return _rehearse_finetuning(
            replace(subject, processes=1), settings.model_copy(update=sizes), mean_length
        )

    few, more_passages, more_queries = with_sizes(2, rows), with_sizes(2, 2 * rows), with_sizes(4, rows)
    queries, passages = wanted

    def plane(at_few: float, at_passages: float, at_queries: float) -> float:
        by_passages = (at_passages - at_few) / (2 * rows) * (passages - 2 * rows)
        return at_few + by_passages + (at_queries - at_passages) / 2 * (queries - 2)

    found = replace(few.combine(plane, more_passages, more_queries), micro_batches=1)
    if settings.gradient_cache:
        # One sub-batch is alive at a time, however many there are; only the embeddings add up.
        width = subject.config.get_text_config().hidden_size
        vectors = 2 * (queries + passages) * width * 4.0  # and their gradients
        rehearsed = (few, more_passages, more_queries)
        moments = [
            _grown(max((one.moments[number] for one in rehearsed), key=_total), vectors)
            for number in range(len(found.moments))
        ]
        found = replace(found, moments=(moments[0], moments[1], moments[2]))
    return replace(found, largest=found.positions)


def _total(moment: Bytes) -> float:
    return sum(moment.values())


def _grown(moment: Bytes, activations: float) -> Bytes:
    return {**moment, ACTIVATIONS: moment[ACTIVATIONS] + activations}


def _with_scores(
    found: Rehearsal, subject: Subject, settings: FinetuneSettings, known: tuple[int, int]
) -> Rehearsal:
    """Add the scores of queries against passages that the rehearsal had not: they grow with the product.

    Args:
        found: the rehearsal.
        subject: what is planned.
        settings: of the stage.
        known: queries and passages whose scores are in it.
    """
    each = settings.positives + settings.hard_negatives
    share = math.ceil(settings.batch_size / subject.processes)
    passages = (settings.batch_size if settings.cross_device_negatives else share) * each
    missing = _score_bytes(share * passages, settings) - _score_bytes(known[0] * known[1], settings)
    forward, early, late = ({**moment} for moment in found.moments)
    for moment in (forward, early):
        moment[LOGITS] += max(missing, 0.0)
    return replace(found, moments=(forward, early, late))


def _score_bytes(pairs: int, settings: FinetuneSettings) -> float:
    """Bytes of the scores of so many queries times passages, which beyond a block are computed in blocks."""
    scores = pairs * settings.positives
    if scores <= BLOCK_SCORES or settings.distillation_weight:
        return scores * SCORES_ALIVE * 4.0
    return BLOCK_SCORES * SCORES_ALIVE * 4.0 + scores  # and a byte each of the mask


def with_layers(config: Any, count: int) -> Any:
    """The configuration of the same model with its first ``count`` layers alone."""
    shorter = copy.deepcopy(config)
    text = shorter.get_text_config()
    whole = text.num_hidden_layers
    for name, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == whole:  # one entry a layer, e.g. layer_types
            setattr(text, name, value[:count])
    text.num_hidden_layers = count
    return shorter


def _alike(config: Any) -> bool:
    """Whether every layer has parameters of the same shapes."""
    with torch.device("meta"):
        model = build_model(config, torch.float32)
    stacks = [part for part in model.modules() if isinstance(part, torch.nn.ModuleList)]
    layers: Any = max(stacks, key=len, default=[])
    return _alike_stack(layers, int(config.get_text_config().num_hidden_layers))


def _alike_stack(layers: Sequence[torch.nn.Module], count: int) -> bool:
    shapes = {tuple((name, part.shape) for name, part in layer.named_parameters()) for layer in layers}
    return len(shapes) == 1 and len(layers) == count


def _rehearse_adaptation(subject: Subject, settings: AdaptSettings, mean_length: int | None) -> Rehearsal:
    parts = adaptation_parts(subject, settings, mean_length)
    with torch.device("meta"):
        model = _model(subject, settings, _new_slots(subject))
        prior = torch.zeros(subject.vocabulary) if settings.frequency_prior else None
        objective = AdaptationObjective(model, settings, len(subject.encoder.prefix_ids), prior)
    choose_attention(model, subject.device)
    return _longest(objective, parts, subject, settings)


def _rehearse_finetuning(subject: Subject, settings: FinetuneSettings, mean_length: int | None) -> Rehearsal:
    parts = [finetuning_part(subject, settings, mean_length)]
    with torch.device("meta"):
        model = _model(subject, settings, (), head=False)
        objective = ContrastiveObjective(model, settings, subject.encoder.template.slots_per_prompt)
    return _longest(objective, parts, subject, settings)


def _longest(
    objective: Any, parts: Sequence[list[dict[str, Tensor]]], subject: Subject, settings: OptimizerSettings
) -> Rehearsal:
    totals = [sum(int(batch["counts"][1]) for batch in part) for part in parts]
    largest = [max(int(batch["counts"][1]) for batch in part) for part in parts]
    objective.train()
    bfloat16 = settings.mixed_precision == "bf16" and not subject.whole_bfloat16
    worst = largest.index(max(largest))
    found = rehearse(objective, parts[worst], subject.vocabulary, bfloat16=bfloat16)
    mean = sum(totals) / len(totals)
    return replace(found, flops=found.flops * mean / found.positions, positions=mean)


def _model(
    subject: Subject, settings: OptimizerSettings, trained_tokens: Sequence[int], head: bool = True
) -> Any:
    dtype = DTYPES[subject.model.dtype]
    model = trainable_model(build_model(subject.config, dtype), settings, 0, trained_tokens, head=head)
    return model.to(torch.bfloat16) if subject.whole_bfloat16 else model


def _new_slots(subject: Subject) -> list[int]:
    """Ids of the slots, which are the last of the vocabulary; their rows are trained beside adapters."""
    template, vocabulary = subject.encoder.template, subject.vocabulary
    added = len(template.ebae_slots) + len(template.ebar_slots)
    return list(range(vocabulary - added, vocabulary)) if added else [SLOT]
