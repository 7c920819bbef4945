"""Queries, positives and hard negatives → the batches of every fine-tuning step, planned up front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import Dataset

from llara_core.config import FinetuneSettings
from llara_core.data.collection import Collection
from llara_core.errors import TrainingError
from llara_core.model.encoding import pad_rows
from llara_core.model.prompts import PromptEncoder
from llara_core.training.contrastive import length_chunks

SHORTEST_SPAN = 4  # tokens: less than this is no query


@dataclass(frozen=True)
class TrainingPairs:
    """What the qrels and the miner say, as row numbers.

    Args:
        queries: N query texts that have a positive.
        positives: for each query the corpus rows judged relevant (grade above 0).
        negatives: for each query its hard negatives' corpus rows; perhaps none.
        text_of: int64 [documents], equal for documents of equal text.
    """

    queries: list[str]
    positives: list[np.ndarray]
    negatives: list[np.ndarray]
    text_of: np.ndarray

    @classmethod
    def collect(cls, collection: Collection, negatives: pa.Table, split: str) -> TrainingPairs:
        """Join queries, qrels and negatives.

        Raises:
            DataError: the split does not exist or judges no query.
            TrainingError: no query of the split has a positive in the corpus.
        """
        row_of = {name: row for row, name in enumerate(collection.corpus_ids)}
        first: dict[str, int] = {}
        text_of = [first.setdefault(text, row) for row, text in enumerate(collection.passages)]
        mined: dict[str, list[int]] = {}
        for query, document in zip(
            negatives["query_id"].to_pylist(), negatives["corpus_id"].to_pylist(), strict=True
        ):
            if document in row_of:
                mined.setdefault(query, []).append(row_of[document])
        judgements = collection.judgements(split)
        texts: list[str] = []
        positives: list[np.ndarray] = []
        hard: list[np.ndarray] = []
        for query, text in zip(*collection.split_queries(split), strict=True):
            grades = judgements[query].items()
            rows = sorted(row_of[name] for name, grade in grades if grade > 0 and name in row_of)
            if rows:
                texts.append(text)
                positives.append(np.array(rows, dtype=np.int64))
                hard.append(np.array(mined.get(query, []), dtype=np.int64))
        if not texts:
            raise TrainingError(
                f"finetune: no query of split {split!r} has a relevant document in the corpus; "
                "check the qrels' ids and grades"
            )
        return cls(texts, positives, hard, np.array(text_of, dtype=np.int64))


@dataclass(frozen=True)
class StepPlan:
    """One step, all as row numbers.

    Args:
        queries: int64 [Q], rows of ``TrainingPairs.queries``.
        positives: int64 [Q], the corpus row drawn for each query.
        negatives: int64 [H], the hard negatives' corpus rows.
        spans: int64 [P], corpus rows of span pairs.
        starts: float [P], where a span starts, as a share of the room that there is.
        sizes: float [P], its size, as a share of what is allowed.
    """

    queries: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray
    spans: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray

    @property
    def documents(self) -> np.ndarray:
        """Every corpus row that the step encodes."""
        return np.concatenate([self.positives, self.negatives, self.spans])


def plan_steps(pairs: TrainingPairs, settings: FinetuneSettings, seed: int) -> list[StepPlan]:
    """The draws of every step: each query once an epoch, one positive, some negatives, some spans."""
    size = min(settings.batch_size, len(pairs.queries))
    plan: list[StepPlan] = []
    epoch = 0
    while len(plan) < settings.steps:
        random = np.random.default_rng([seed, epoch])
        order = random.permutation(len(pairs.queries))
        for start in range(0, len(order) - size + 1, size):
            plan.append(_draw(pairs, order[start : start + size], settings, random))
        epoch += 1
    return plan[: settings.steps]


def _draw(
    pairs: TrainingPairs, queries: np.ndarray, settings: FinetuneSettings, random: np.random.Generator
) -> StepPlan:
    positives = np.array([random.choice(pairs.positives[query]) for query in queries], dtype=np.int64)
    hard: list[int] = []
    for query in queries:
        known = pairs.negatives[query]
        hard += random.permutation(known)[: settings.hard_negatives].tolist()
    spans = random.integers(len(pairs.text_of), size=settings.span_pairs)
    starts, sizes = random.random(settings.span_pairs), random.random(settings.span_pairs)
    return StepPlan(queries, positives, np.array(hard, dtype=np.int64), spans, starts, sizes)


class ContrastiveBatches(Dataset[dict[str, Tensor]]):
    """All batches of a fine-tuning; item k is the batch of step k.

    Args:
        pairs: queries and their documents.
        collection: the passages.
        encoder: of queries and passages.
        settings: of the stage.
        seed: of every draw.
    """

    def __init__(
        self,
        pairs: TrainingPairs,
        collection: Collection,
        encoder: PromptEncoder,
        settings: FinetuneSettings,
        seed: int,
    ) -> None:
        self.pairs, self.encoder = pairs, encoder
        self.plan = plan_steps(pairs, settings, seed)
        # Only what some step needs is tokenised, and that once.
        used = np.unique(pairs.text_of[np.concatenate([step.documents for step in self.plan])])
        texts = [collection.passages[row] for row in used]
        self.documents = dict(
            zip(used.tolist(), encoder.text_ids(texts, encoder.lengths["passage"]), strict=True)
        )
        self.queries = encoder.text_ids(pairs.queries, encoder.lengths["query"])

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.plan)

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """The batch of a step, as ``ContrastiveObjective.forward`` takes it.

        A text is encoded once however often it was drawn, so a duplicate can be no false negative.
        """
        plan, text_of = self.plan[step], self.pairs.text_of
        spans = [self._span(*draw) for draw in zip(plan.spans.tolist(), plan.starts, plan.sizes, strict=True)]
        kept = [index for index, span in enumerate(spans) if span]
        query_rows = [self.queries[row] for row in plan.queries] + [spans[index] for index in kept]
        own = text_of[np.concatenate([plan.positives, plan.spans[kept]])]
        relevant = [text_of[self.pairs.positives[row]] for row in plan.queries]
        columns, targets = np.unique(np.concatenate([own, text_of[plan.negatives]]), return_inverse=True)
        masked = np.zeros((len(own), len(columns)), dtype=bool)
        for row, rows in enumerate(relevant):
            masked[row] = np.isin(columns, rows)
        masked[np.arange(len(own)), targets[: len(own)]] = False
        return self._tensors(query_rows, columns, targets[: len(own)], masked)

    def _tensors(
        self, query_rows: Sequence[list[int]], columns: np.ndarray, targets: np.ndarray, masked: np.ndarray
    ) -> dict[str, Tensor]:
        encoder = self.encoder
        queries = [[*encoder.prefix_ids, *row, *encoder.ebar_suffix_ids] for row in query_rows]
        passages = [
            [*encoder.prefix_ids, *self.documents[int(row)], *encoder.ebae_suffix_ids] for row in columns
        ]
        # Both sides are sorted by falling length, so that the step can cut them into chunks.
        query_order = np.argsort([-len(row) for row in queries], kind="stable")
        passage_order = np.argsort([-len(row) for row in passages], kind="stable")
        place = np.empty(len(passages), dtype=np.int64)
        place[passage_order] = np.arange(len(passages))
        query_ids, query_lengths = pad_rows([queries[row] for row in query_order], encoder.pad_id)
        passage_ids, passage_lengths = pad_rows([passages[row] for row in passage_order], encoder.pad_id)
        real = int(query_lengths.sum() + passage_lengths.sum())
        return {
            "query_ids": query_ids,
            "query_lengths": query_lengths,
            "passage_ids": passage_ids,
            "passage_lengths": passage_lengths,
            "targets": torch.from_numpy(place[targets][query_order]),
            "masked": torch.from_numpy(masked[query_order][:, passage_order]),
            "counts": torch.tensor([real, _padded(query_lengths) + _padded(passage_lengths)]),
        }

    def _span(self, row: int, start: float, size: float) -> list[int]:
        """A random run of a document's visible tokens; empty when the document is too short for one."""
        ids: list[int] = self.documents[int(self.pairs.text_of[row])]
        longest = min(self.encoder.lengths["query"], len(ids))
        if longest < SHORTEST_SPAN:
            return []
        length = SHORTEST_SPAN + int(size * (longest - SHORTEST_SPAN + 1))
        first = int(start * (len(ids) - length + 1))
        return ids[first : first + length]


def _padded(lengths: Tensor) -> int:
    """Positions that the chunks of ``length_chunks`` compute, padding included."""
    return sum((end - start) * int(lengths[start]) for start, end in length_chunks(lengths))
