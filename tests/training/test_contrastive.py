"""InfoNCE by hand, false negatives, chunks and the plan of a step."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional

from llara_core.config import FinetuneSettings
from llara_core.data.collection import CORPUS_SCHEMA, QRELS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.training.contrastive import info_nce, length_chunks, passage_to_query
from llara_core.training.pairs import ContrastiveBatches, TrainingPairs, plan_steps


def unit(*shape: int) -> torch.Tensor:
    return functional.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


def test_info_nce_equals_loops() -> None:
    torch.manual_seed(0)
    queries, passages = unit(2, 5), unit(4, 5)
    masked = torch.tensor([[False, False, True, False], [False] * 4])
    losses = []
    for row, (own, hidden) in enumerate([(1, {2}), (3, set())]):
        scores = [float(queries[row] @ passages[col]) / 0.1 for col in range(4)]
        total = sum(math.exp(score) for col, score in enumerate(scores) if col not in hidden)
        losses.append(math.log(total) - scores[own])
    loss = info_nce(queries, passages, torch.tensor([1, 3]), masked, 0.1)
    assert loss.item() == pytest.approx(sum(losses) / 2, abs=1e-9)


def test_passage_to_query_leaves_out_other_queries_of_the_passage() -> None:
    torch.manual_seed(0)
    queries, passages = unit(3, 5), unit(2, 5)
    targets = torch.tensor([0, 0, 1])  # two queries share passage 0; it is also relevant to query 2
    masked = torch.tensor([[False, False], [False, False], [True, False]])
    scores = (passages @ queries.T / 0.1).tolist()
    own = [0.0, 0.0]  # nothing but itself is left for the first two
    third = math.log(sum(math.exp(score) for score in scores[1])) - scores[1][2]
    loss = passage_to_query(queries, passages, targets, masked, 0.1)
    assert loss.item() == pytest.approx((sum(own) + third) / 3, abs=1e-9)


def test_chunks_cover_all_rows_once() -> None:
    lengths = torch.tensor([100] * 20 + [70] * 5 + [10] * 30)
    chunks = length_chunks(lengths)
    assert chunks == [(0, 20), (20, 36), (36, 55)]
    assert length_chunks(torch.tensor([5])) == [(0, 1)]


class Words:
    """Stands for a PromptEncoder: a word is its number, prompts are bare."""

    prefix_ids: tuple[int, ...] = ()
    ebae_suffix_ids = (1,)
    ebar_suffix_ids = (2,)
    pad_id = 0
    lengths = {"query": 8, "passage": 8}  # noqa: RUF012

    def text_ids(self, texts: list[str], max_length: int) -> list[list[int]]:
        return [[int(word) for word in text.split()][:max_length] for text in texts]


def make(judged: list[tuple[str, str, int]]) -> Collection:
    texts = ["10 11 12 13 14", "20 21 22 23", "10 11 12 13 14", "30 31 32 33", "40 41 42 43 44 45"]
    corpus = [{"_id": f"d{i}", "title": "", "text": text} for i, text in enumerate(texts)]
    queries = [{"_id": f"q{i}", "text": str(50 + i)} for i in range(3)]
    qrels = [{"query_id": q, "corpus_id": d, "score": s} for q, d, s in judged]
    tables = zip((corpus, queries, qrels), (CORPUS_SCHEMA, QUERIES_SCHEMA, QRELS_SCHEMA), strict=True)
    corpus_table, query_table, qrel_table = (pa.Table.from_pylist(rows, schema) for rows, schema in tables)
    return Collection("toy", corpus_table, query_table, {"train": qrel_table})


JUDGED = [
    ("q0", "d0", 1),
    ("q0", "d1", 1),
    ("q1", "d2", 1),
    ("q2", "d3", 1),
    ("q2", "d4", 0),
    ("q2", "dX", 1),
]


def test_duplicates_and_judged_positives_are_no_negatives() -> None:
    collection = make(JUDGED)
    negatives = pa.table({"query_id": ["q2", "q1"], "corpus_id": ["d4", "d1"]})
    pairs = TrainingPairs.collect(collection, negatives, "train")
    assert [rows.tolist() for rows in pairs.positives] == [[0, 1], [2], [3]]
    assert pairs.text_of.tolist() == [0, 1, 0, 3, 4]
    settings = FinetuneSettings(steps=8, batch_size=3, hard_negatives=1)
    batches = ContrastiveBatches(pairs, collection, Words(), settings, seed=0)
    for step in range(8):
        batch = batches[step]
        passages = [row[0].item() // 10 for row in batch["passage_ids"]]
        assert len(set(passages)) == len(passages)  # d0 and d2 are one text: encoded once
        allowed = {50: {1, 2}, 51: {1}, 52: {3}}
        for row, query in enumerate(batch["query_ids"][:, 0].tolist()):
            own = passages[int(batch["targets"][row])]
            assert own in allowed[query]
            hidden = {passages[col] for col in torch.where(batch["masked"][row])[0].tolist()}
            assert hidden == (allowed[query] & set(passages)) - {own}
        assert 4 in passages and 2 in passages  # the hard negatives are there


def test_plan_depends_on_the_seed_alone_and_covers_every_query() -> None:
    pairs = TrainingPairs.collect(make(JUDGED), pa.table({"query_id": ["q2"], "corpus_id": ["d4"]}), "train")
    settings = FinetuneSettings(steps=6, batch_size=1, span_pairs=2)
    one, same, other = (plan_steps(pairs, settings, seed) for seed in (0, 0, 1))
    key = [[step.documents.tolist(), step.starts.tolist()] for step in one]
    assert key == [[step.documents.tolist(), step.starts.tolist()] for step in same]
    assert key != [[step.documents.tolist(), step.starts.tolist()] for step in other]
    assert sorted(int(step.queries[0]) for step in one[:3]) == [0, 1, 2]
    assert {
        int(step.positives[0]) for step in plan_steps(pairs, settings.model_copy(update={"steps": 60}), 0)
    } == {0, 1, 2, 3}


def test_span_pairs_lie_inside_their_document() -> None:
    collection = make(JUDGED)
    pairs = TrainingPairs.collect(collection, pa.table({"query_id": [], "corpus_id": []}), "train")
    settings = FinetuneSettings(steps=5, batch_size=1, span_pairs=6)
    batches = ContrastiveBatches(pairs, collection, Words(), settings, seed=0)
    spans = 0
    for step in range(5):
        batch = batches[step]
        for row, length in enumerate(batch["query_lengths"].tolist()):
            ids = batch["query_ids"][row, : length - 1].tolist()
            if len(ids) > 1:  # not one of the one-word queries
                spans += 1
                own = batch["passage_ids"][int(batch["targets"][row])].tolist()
                assert len(ids) >= 4 and any(own[at : at + len(ids)] == ids for at in range(len(own)))
        assert np.all(np.diff(batch["query_lengths"].numpy()) <= 0)
    assert spans == 30
