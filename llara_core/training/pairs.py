"""The batches of every fine-tuning step, planned up front; any process can compute any share of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llara_core.config import FinetuneSettings
from llara_core.data.collection import Collection
from llara_core.model.encoding import pad_rows
from llara_core.model.prompts import PromptEncoder
from llara_core.training.distillation import TeacherScores
from llara_core.training.step_plan import Rows, StepPlan, TrainingPairs, plan_steps
from llara_core.training.sub_batches import computed_positions, sub_batch_tokens

__all__ = ["ContrastiveBatches", "StepPlan", "TrainingPairs", "plan_steps"]

SHORTEST_SPAN = 4  # tokens: less than this is no query


@dataclass(frozen=True)
class _Step:
    """A whole step, before it is shared out: E entries are queries and spans.

    Args:
        ids: E rows of token ids of the entries' texts, sorted by falling length.
        owns: for each entry the texts of its drawn positives, distinct.
        hard: for each entry the texts of its hard negatives.
        related: for each entry the texts that are no negatives of it.
        teacher: for each entry its scored candidates' texts and scores; empty: fewer than two.
    """

    ids: list[list[int]]
    owns: list[Rows]
    hard: list[Rows]
    related: list[Rows]
    teacher: list[dict[int, float]]


class ContrastiveBatches:
    """All batches of a fine-tuning.

    Args:
        pairs: queries and their documents.
        collection: the passages.
        encoder: of queries and passages.
        settings: of the stage.
        seed: of every draw.
        teacher: scores to distil, if any.
    """

    def __init__(
        self,
        pairs: TrainingPairs,
        collection: Collection,
        encoder: PromptEncoder,
        settings: FinetuneSettings,
        seed: int,
        teacher: TeacherScores | None = None,
    ) -> None:
        self.pairs, self.encoder, self.settings, self.teacher = pairs, encoder, settings, teacher
        self.plan = plan_steps(pairs, settings, seed)
        # Only what some step needs is tokenised, and that once.
        used = np.unique(pairs.text_of[np.concatenate([step.documents for step in self.plan])])
        texts = [collection.passages[row] for row in used]
        self.documents = dict(
            zip(used.tolist(), encoder.text_ids(texts, encoder.lengths["passage"]), strict=True)
        )
        self.queries = encoder.text_ids(pairs.queries, encoder.lengths["query"])
        self.relatives = pairs.relatives() if settings.mask_groups else {}

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.plan)

    def part(self, step: int, rank: int, world: int) -> list[dict[str, Tensor]]:
        """One process's share of a step, as ``ContrastiveObjective.forward`` takes it: one micro-batch.

        Queries and passages are dealt out in turn from the longest to the shortest, so that every process
        has as much to do. A text is encoded once however often it was drawn, so a duplicate can be no false
        negative. Without ``cross_device_negatives`` a process has the passages of its own queries alone.

        Args:
            step: from 0.
            rank: of the process.
            world: number of processes.
        """
        whole = self._whole(self.plan[step])
        every = list(range(len(whole.ids)))
        own = every[rank::world]
        if self.settings.cross_device_negatives:
            seen = every
        else:
            seen, rank, world = own, 0, 1
        columns = self._columns(whole, seen)
        passage_shares = [columns[start::world] for start in range(world)]
        query_shares = [seen[start::world] for start in range(world)]
        places = _Places(np.concatenate(passage_shares))  # as `gather_rows` lays them out
        batch = self._tokens(whole, own, passage_shares[rank])
        order = [entry for share in query_shares for entry in share]
        batch |= _charges(whole, own, order, places, self.settings.symmetric)
        if self.teacher is not None:
            batch |= _taught(whole, own, places)
        for name, shares in (("query", query_shares), ("passage", passage_shares)):
            batch[f"{name}_shares"] = torch.tensor([len(share) for share in shares])
        batch["rank"] = torch.tensor(rank)
        return [batch]

    def _columns(self, whole: _Step, entries: Sequence[int]) -> Rows:
        """The texts that these entries drew, once each, by falling length."""
        drawn = [texts for entry in entries for texts in (whole.owns[entry], whole.hard[entry])]
        columns = np.unique(np.concatenate([*drawn, np.empty(0, dtype=np.int64)]))
        lengths = np.array([len(self.documents[text]) for text in columns.tolist()], dtype=np.int64)
        return columns[np.argsort(-lengths, kind="stable")]

    def _whole(self, plan: StepPlan) -> _Step:
        text_of = self.pairs.text_of
        spans = [self._span(*draw) for draw in zip(plan.spans.tolist(), plan.starts, plan.sizes, strict=True)]
        kept = [index for index, span in enumerate(spans) if span]
        count, none = len(plan.queries), np.empty(0, dtype=np.int64)
        owns = [np.unique(text_of[rows]) for rows in _grouped(plan.positives, plan.positive_of, count)]
        hard = [text_of[rows] for rows in _grouped(plan.negatives, plan.negative_of, count)]
        judged = [self.pairs.positives[row] for row in plan.queries]
        judged += [plan.spans[index : index + 1] for index in kept]
        taught = [
            {} if self.teacher is None else self.teacher.among(int(row), np.concatenate(texts))
            for row, *texts in zip(plan.queries, owns, hard, strict=True)
        ]
        ids = [self.queries[row] for row in plan.queries] + [spans[index] for index in kept]
        whole = _Step(
            ids,
            owns + [text_of[plan.spans[index : index + 1]] for index in kept],
            hard + [none] * len(kept),
            [self._related(rows) for rows in judged],
            taught + [{}] * len(kept),
        )
        order = np.argsort([-len(row) for row in ids], kind="stable").tolist()
        return _Step(*([column[entry] for entry in order] for column in vars(whole).values()))

    def _related(self, rows: Rows) -> Rows:
        """Texts that are no negatives of who has these documents as positives."""
        texts = [self.pairs.text_of[rows]]
        if self.settings.mask_groups:
            groups = self.pairs.group_of[rows].tolist()
            texts += [self.relatives[group] for group in groups if group in self.relatives]
        return np.concatenate(texts)

    def _tokens(self, whole: _Step, own: Sequence[int], columns: Rows) -> dict[str, Tensor]:
        encoder = self.encoder
        # Who has no row of a side encodes one all the same, and the objective drops it: every process must
        # run the model, or those that do would wait for its gradients for ever.
        queries = [whole.ids[entry] for entry in own] or whole.ids[:1]
        passages = [self.documents[int(text)] for text in columns] or [queries[0]]
        query_ids, query_lengths = pad_rows(
            [[*encoder.prefix_ids, *row, *encoder.ebar_suffix_ids] for row in queries], encoder.pad_id
        )
        passage_ids, passage_lengths = pad_rows(
            [[*encoder.prefix_ids, *row, *encoder.ebae_suffix_ids] for row in passages], encoder.pad_id
        )
        most = sub_batch_tokens(self.settings)
        computed = computed_positions(query_lengths, most) + computed_positions(passage_lengths, most)
        return {
            "query_ids": query_ids,
            "query_lengths": query_lengths,
            "passage_ids": passage_ids,
            "passage_lengths": passage_lengths,
            "counts": torch.tensor([int(query_lengths.sum() + passage_lengths.sum()), computed]),
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


def _grouped(items: Rows, owners: Rows, count: int) -> list[Rows]:
    """The items of each of ``count`` owners; ``owners`` ascend."""
    return np.split(items, np.searchsorted(owners, np.arange(1, count))) if count else []


class _Places:
    """Finds texts among the columns of a step.

    Args:
        columns: int64 [P], distinct.
    """

    def __init__(self, columns: Rows) -> None:
        self.order = np.argsort(columns)
        self.ascending = columns[self.order]

    def __call__(self, texts: Rows) -> Rows:
        """The columns of those texts that have one."""
        near = np.searchsorted(self.ascending, texts)
        inside = near < len(self.ascending)
        near, texts = near[inside], texts[inside]
        found: Rows = self.order[near[self.ascending[near] == texts]]
        return found


def _charges(
    whole: _Step, own: Sequence[int], order: Sequence[int], places: _Places, symmetric: bool
) -> dict[str, Tensor]:
    """What each (query, positive) pair of the own queries is charged for, N pairs.

    Args:
        whole: the step.
        own: this process's entries.
        order: entries whose queries a passage is charged against, as they are gathered.
        places: of the passages, as they are gathered.
        symmetric: whether passages are charged for their queries, too.
    """
    count, width = len(own), len(places.order)
    targets = [places(whole.owns[entry]) for entry in own]
    rows = np.repeat(np.arange(count), [len(columns) for columns in targets])
    column = np.concatenate([*targets, np.empty(0, dtype=np.int64)])
    related = np.zeros((count, width), dtype=bool)
    for row, entry in enumerate(own):
        related[row, places(whole.related[entry])] = True
    masked = related[rows]
    masked[np.arange(len(rows)), column] = False
    shares = [1.0 / len(columns) for columns in targets for _ in columns]
    charges = {
        "rows": torch.from_numpy(rows),
        "targets": torch.from_numpy(column),
        "masked": torch.from_numpy(masked),
        "weights": torch.tensor(shares, dtype=torch.float64) / len(whole.ids),
    }
    if symmetric:
        at = {entry: index for index, entry in enumerate(order)}
        back = np.array([at[own[row]] for row in rows.tolist()], dtype=np.int64)
        hidden = np.zeros((len(rows), len(order)), dtype=bool)
        for index, entry in enumerate(order):
            relevant = np.zeros(width, dtype=bool)
            relevant[places(whole.related[entry])] = True
            hidden[:, index] = relevant[column]
        hidden[np.arange(len(rows)), back] = False
        charges |= {"back_targets": torch.from_numpy(back), "back_masked": torch.from_numpy(hidden)}
    return charges


def _taught(whole: _Step, own: Sequence[int], places: _Places) -> dict[str, Tensor]:
    """The teacher's view of the own queries: columns and scores [Q, C], padded with -inf, and weights [Q]."""
    width = max([1, *(len(whole.teacher[entry]) for entry in own)])
    columns = np.zeros((len(own), width), dtype=np.int64)
    scores = np.full((len(own), width), -np.inf)
    for row, entry in enumerate(own):
        candidates = whole.teacher[entry]  # every one of them is among the columns
        columns[row, : len(candidates)] = places(np.array(list(candidates), dtype=np.int64))
        scores[row, : len(candidates)] = list(candidates.values())
    taught = sum(bool(candidates) for candidates in whole.teacher)
    weights = [bool(whole.teacher[entry]) / max(taught, 1) for entry in own]
    return {
        "teacher_columns": torch.from_numpy(columns),
        "teacher_scores": torch.from_numpy(scores),
        "teacher_weights": torch.tensor(weights, dtype=torch.float64),
    }
