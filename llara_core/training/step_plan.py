"""Queries, positives and hard negatives as row numbers, and what every step draws from them.

Source: LLaRA (arXiv 2312.15503), section 3.4; several positives, groups: issue 3, point 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llara_core.config import FinetuneSettings
from llara_core.data.collection import Collection
from llara_core.errors import TrainingError

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class TrainingPairs:
    """What the qrels and the miner say, as row numbers.

    Args:
        queries: N query texts that have a positive.
        positives: for each query the corpus rows judged relevant (grade above 0), ascending.
        negatives: for each query its hard negatives' corpus rows; perhaps none.
        text_of: int64 [documents], equal for documents of equal text.
        group_of: int64 [documents], equal for documents of one group; -1: of no group.
        query_ids: the queries' N ids.
    """

    queries: list[str]
    positives: list[Rows]
    negatives: list[Rows]
    text_of: Rows
    group_of: Rows = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    query_ids: list[str] = field(default_factory=list)

    @classmethod
    def collect(cls, collection: Collection, negatives: pa.Table, split: str) -> TrainingPairs:
        """Join queries, qrels and negatives.

        Raises:
            DataError: the split does not exist or judges no query.
            TrainingError: no query of the split has a positive in the corpus.
        """
        row_of = {name: row for row, name in enumerate(collection.corpus_ids)}
        mined: dict[str, list[int]] = {}
        for query, document in zip(
            negatives["query_id"].to_pylist(), negatives["corpus_id"].to_pylist(), strict=True
        ):
            if document in row_of:
                mined.setdefault(query, []).append(row_of[document])
        judgements = collection.judgements(split)
        ids: list[str] = []
        texts: list[str] = []
        positives: list[Rows] = []
        hard: list[Rows] = []
        for query, text in zip(*collection.split_queries(split), strict=True):
            grades = judgements[query].items()
            rows = sorted(row_of[name] for name, grade in grades if grade > 0 and name in row_of)
            if rows:
                ids.append(query)
                texts.append(text)
                positives.append(np.array(rows, dtype=np.int64))
                hard.append(np.array(mined.get(query, []), dtype=np.int64))
        if not texts:
            raise TrainingError(
                f"finetune: no query of split {split!r} has a relevant document in the corpus; "
                "check the qrels' ids and grades"
            )
        groups = _equal([group or None for group in collection.corpus["group"].to_pylist()])
        return cls(texts, positives, hard, _equal(collection.passages), groups, ids)

    def relatives(self) -> dict[int, Rows]:
        """For each group the texts (as in ``text_of``) of its documents."""
        members: dict[int, set[int]] = {}
        for row in np.flatnonzero(self.group_of >= 0).tolist():
            members.setdefault(int(self.group_of[row]), set()).add(int(self.text_of[row]))
        return {group: np.array(sorted(texts), dtype=np.int64) for group, texts in members.items()}


def _equal(values: Sequence[str | None]) -> Rows:
    """For each value the first row that has it; -1 for None."""
    first: dict[str, int] = {}
    rows = [-1 if value is None else first.setdefault(value, row) for row, value in enumerate(values)]
    return np.array(rows, dtype=np.int64)


@dataclass(frozen=True)
class StepPlan:
    """One step, all as row numbers.

    Args:
        queries: int64 [Q], rows of ``TrainingPairs.queries``.
        positives: int64 [N], the corpus rows drawn for the queries, N >= Q.
        positive_of: int64 [N], for which of the Q queries; ascending.
        negatives: int64 [H], the hard negatives' corpus rows.
        negative_of: int64 [H], of which of the Q queries; ascending.
        spans: int64 [P], corpus rows of span pairs.
        starts: float [P], where a span starts, as a share of the room that there is.
        sizes: float [P], its size, as a share of what is allowed.
    """

    queries: Rows
    positives: Rows
    positive_of: Rows
    negatives: Rows
    negative_of: Rows
    spans: Rows
    starts: NDArray[np.float64]
    sizes: NDArray[np.float64]

    @property
    def documents(self) -> Rows:
        """Every corpus row that the step encodes."""
        return np.concatenate([self.positives, self.negatives, self.spans])


def plan_steps(pairs: TrainingPairs, settings: FinetuneSettings, seed: int) -> list[StepPlan]:
    """The draws of every step: each query once an epoch, its positives, some negatives, some spans."""
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
    pairs: TrainingPairs, queries: Rows, settings: FinetuneSettings, random: np.random.Generator
) -> StepPlan:
    positives = [_positives(pairs, int(query), settings.positives, random) for query in queries]
    negatives = [
        random.permutation(pairs.negatives[query])[: settings.hard_negatives].tolist() for query in queries
    ]
    spans = random.integers(len(pairs.text_of), size=settings.span_pairs)
    starts, sizes = random.random(settings.span_pairs), random.random(settings.span_pairs)
    return StepPlan(queries, *_flat(positives), *_flat(negatives), spans, starts, sizes)


def _positives(pairs: TrainingPairs, query: int, most: int, random: np.random.Generator) -> list[int]:
    known = pairs.positives[query]
    if most == 1:
        return [int(random.choice(known))]
    # Two documents of one text are one positive: drawing both would only count it twice.
    _, first = np.unique(pairs.text_of[known], return_index=True)
    distinct = known[np.sort(first)]
    drawn: list[int] = random.choice(distinct, size=min(most, len(distinct)), replace=False).tolist()
    return drawn


def _flat(lists: Sequence[Sequence[int]]) -> tuple[Rows, Rows]:
    """All members, and for each the list that it is of."""
    owners = np.repeat(np.arange(len(lists)), [len(members) for members in lists])
    return np.array([item for members in lists for item in members], dtype=np.int64), owners
