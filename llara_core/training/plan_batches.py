"""What a plan works on: batches of made-up texts, cut by the stages' own code.

Texts are numbers, all of the same length: the longest that the settings allow, or a given one.

Source: issue 3, point 10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from llara_core.config import AdaptSettings, FinetuneSettings, ModelSettings
from llara_core.data.collection import CORPUS_SCHEMA, QRELS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.training.adaptation_rows import BUCKET_BATCHES, AdaptationBatches
from llara_core.training.adaptation_targets import TargetRule, TokenRows
from llara_core.training.micro_batches import CutRule, cut_rule
from llara_core.training.pairs import ContrastiveBatches, TrainingPairs
from llara_core.training.plan_model import SLOT, PlanEncoder

FIRST_WORD = SLOT + 1  # ids from here on are words


@dataclass(frozen=True)
class Subject:
    """What is planned, whatever the stage.

    Args:
        model: settings of the model.
        config: its transformers configuration, slots counted in.
        encoder: lengths of its prompts.
        device: ``cpu`` or ``cuda``: how rows are cut into micro-batches.
        processes: number of devices that share a step.
        whole_bfloat16: weights are in bfloat16 whatever the settings say: what a process of FSDP computes
            with, once it has gathered them.
    """

    model: ModelSettings
    config: Any
    encoder: PlanEncoder
    device: str
    processes: int = 1
    whole_bfloat16: bool = False

    @property
    def vocabulary(self) -> int:
        """Rows of the output embedding, V."""
        return int(self.config.get_text_config().vocab_size)


def adaptation_parts(
    subject: Subject, settings: AdaptSettings, mean_length: int | None = None
) -> list[list[dict[str, Tensor]]]:
    """The first process's share of each of a few steps, on texts of full or of the given mean length.

    Packed sequences are planned as they are under ``sdpa`` and ``eager``, which compute the pairs of tokens
    of different rows and mask them away. ``flex_attention`` skips those pairs and has no such mask: its
    sequences are planned as what it computes, row by row, as many rows at a time as are packed together.
    """
    length = min(mean_length or settings.text_length, settings.text_length)
    steps = 1 if settings.minimum_span is None else BUCKET_BATCHES
    # Spans are cut out of longer texts.
    words = length if settings.minimum_span is None else 2 * length
    rows = TokenRows.pack([_words(subject, row * words, words) for row in range(settings.batch_size * steps)])
    changed = settings.model_copy(update={"steps": steps, "text_length": length})
    cutting = cut_rule(subject.device, settings.micro_batch_tokens)
    if settings.packing and subject.model.attention == "flex_attention":
        changed = changed.model_copy(update={"packing": False})
        cutting = CutRule(call_cost=cutting.most, most=cutting.most)  # in as few passes as packing makes
    batches = AdaptationBatches(
        rows,
        rows,
        subject.encoder,
        TargetRule(np.zeros(subject.vocabulary, dtype=bool), settings.targets == "all"),
        changed,
        0,
        cutting,
    )
    return [batches.part(step, 0, subject.processes) for step in range(steps)]


def finetuning_part(
    subject: Subject, settings: FinetuneSettings, mean_length: int | None = None
) -> list[dict[str, Tensor]]:
    """The first process's share of a step: as many queries and passages, each of a text of its own."""
    # Other processes' passages are gathered, not computed: this process plans its own share alone.
    queries = math.ceil(settings.batch_size / subject.processes)
    spans = math.ceil(settings.span_pairs / subject.processes)
    lengths = {kind: min(mean_length or most, most) for kind, most in subject.encoder.lengths.items()}
    each = settings.positives + settings.hard_negatives
    passages = [
        " ".join(map(str, _words(subject, row * lengths["passage"], lengths["passage"])))
        for row in range(queries * each + spans)
    ]
    texts = [
        " ".join(map(str, _words(subject, row * lengths["query"], lengths["query"])))
        for row in range(queries)
    ]
    collection, negatives = _collection(passages, texts, settings.positives, each)
    pairs = TrainingPairs.collect(collection, negatives, "train")
    changed = settings.model_copy(
        update={"steps": 1, "batch_size": queries, "span_pairs": spans, "split": "train"}
    )
    return ContrastiveBatches(pairs, collection, subject.encoder, changed, 0).part(0, 0, 1)


def _collection(
    passages: Sequence[str], queries: Sequence[str], positives: int, each: int
) -> tuple[Collection, pa.Table]:
    """Every query owns ``each`` passages of its own: its positives, then its hard negatives."""
    corpus = [{"_id": f"d{row}", "title": "", "text": text} for row, text in enumerate(passages)]
    asked = [{"_id": f"q{row}", "text": text} for row, text in enumerate(queries)]
    owned = [(row, row * each + number, number < positives)
             for row in range(len(queries)) for number in range(each)]  # fmt: skip
    qrels = [
        {"query_id": f"q{query}", "corpus_id": f"d{row}", "score": 1} for query, row, own in owned if own
    ]
    hard = {
        "query_id": [f"q{query}" for query, _, own in owned if not own],
        "corpus_id": [f"d{row}" for _, row, own in owned if not own],
    }
    tables: Mapping[str, pa.Table] = {"train": pa.Table.from_pylist(qrels, QRELS_SCHEMA)}
    return Collection(
        "plan",
        pa.Table.from_pylist(corpus, CORPUS_SCHEMA),
        pa.Table.from_pylist(asked, QUERIES_SCHEMA),
        dict(tables),
    ), pa.table(hard, schema=pa.schema([("query_id", pa.string()), ("corpus_id", pa.string())]))


def _words(subject: Subject, start: int, count: int) -> list[int]:
    """``count`` ids of words, distinct as far as the vocabulary goes, different from row to row."""
    room = subject.vocabulary - FIRST_WORD
    return [FIRST_WORD + (start + number) % room for number in range(count)]
