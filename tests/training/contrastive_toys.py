"""Toys for the tests of the contrastive stage: words that are numbers, and processes in turn."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from llara_core.config import FinetuneSettings
from llara_core.data.collection import CORPUS_SCHEMA, QRELS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.training import contrastive
from llara_core.training.contrastive import ContrastiveObjective
from llara_core.training.pairs import ContrastiveBatches

WORDS = 400
NO_NEGATIVES = pa.table({"query_id": pa.array([], pa.string()), "corpus_id": pa.array([], pa.string())})


class Words:
    """Stands for a PromptEncoder: a word is its number, prompts are bare."""

    prefix_ids: tuple[int, ...] = ()
    ebae_suffix_ids = (1,)
    ebar_suffix_ids = (2,)
    pad_id = 0
    lengths = {"query": 8, "passage": 8}  # noqa: RUF012

    def text_ids(self, texts: list[str], max_length: int) -> list[list[int]]:
        return [[int(word) for word in text.split()][:max_length] for text in texts]


def toy_collection(
    texts: Sequence[str],
    queries: Sequence[str],
    judged: Sequence[tuple[str, str, int]],
    groups: Sequence[str | None] | None = None,
) -> Collection:
    """Documents d0, d1, … and queries q0, q1, … with a training split."""
    corpus = [
        {"_id": f"d{i}", "title": "", "text": text, "group": groups[i] if groups else None}
        for i, text in enumerate(texts)
    ]
    asked = [{"_id": f"q{i}", "text": text} for i, text in enumerate(queries)]
    qrels = [{"query_id": query, "corpus_id": document, "score": score} for query, document, score in judged]
    tables = zip((corpus, asked, qrels), (CORPUS_SCHEMA, QUERIES_SCHEMA, QRELS_SCHEMA), strict=True)
    corpus_table, query_table, qrel_table = (pa.Table.from_pylist(rows, schema) for rows, schema in tables)
    return Collection("toy", corpus_table, query_table, {"train": qrel_table})


class WordTable(ContrastiveObjective):
    """The objective over a table of word vectors: an embedding is the mean of its words', normalised."""

    def __init__(self, settings: FinetuneSettings, seed: int = 0) -> None:
        super().__init__(torch.nn.Linear(1, 1), settings, slots=1)
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.nn.Parameter(torch.randn(WORDS, 5, generator=generator, dtype=torch.float64))

    def encode(self, input_ids: Tensor, lengths: Tensor, last: bool = False) -> Tensor:
        real = torch.arange(input_ids.shape[1])[None] < lengths[:, None]
        total = (self.table[input_ids] * real[..., None]).sum(dim=1)
        return functional.normalize(total / lengths[:, None], dim=-1)

    def vector(self, words: Sequence[int]) -> list[float]:
        """Of one row of ids."""
        values: list[float] = self.encode(torch.tensor([words]), torch.tensor([len(words)]))[0].tolist()
        return values


def all_ranks(
    monkeypatch: pytest.MonkeyPatch,
    objective: ContrastiveObjective,
    batches: ContrastiveBatches,
    step: int,
    world: int,
) -> dict[str, Tensor]:
    """The terms of a step summed over ``world`` processes, which take turns in this one."""
    parts = [batches.part(step, rank, world)[0] for rank in range(world)]
    # What the processes would send each other, with its graph: so a backward pass reaches every share.
    shares = {
        name: [objective._own(part, name) for part in parts] if world > 1 else []
        for name in ("query", "passage")
    }
    calls: list[str] = []

    def gather(tensor: Tensor, sizes: Sequence[int]) -> Tensor:
        name = "query" if calls and calls[-1] == "passage" and objective.settings.symmetric else "passage"
        calls.append(name)
        own = [share for share in shares[name] if torch.equal(share, tensor)]
        assert own, "a process sends what is its own"
        assert [len(share) for share in shares[name]] == list(sizes)
        return torch.cat(shares[name])

    monkeypatch.setattr(contrastive, "gather_rows", gather)
    totals: dict[str, Tensor] = {}
    for part in parts:
        for name, value in objective(part).items():
            totals[name] = totals.get(name, torch.zeros(())) + value
    return totals
