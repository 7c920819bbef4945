"""InfoNCE and the contrastive step against loops: false negatives, several positives, processes."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional

from llara_core.config import FinetuneSettings
from llara_core.training.contrastive import info_nce
from llara_core.training.pairs import ContrastiveBatches, TrainingPairs
from tests.oracles import contrastive_oracle as oracle
from tests.training.contrastive_toys import Words, WordTable, all_ranks, toy_collection

TEMPERATURE = 0.3


def unit(*shape: int) -> torch.Tensor:
    return functional.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


def test_info_nce_by_hand() -> None:
    # Row 0: own 1, against 0 and 3 (2 is hidden); row 1: own 0, against all, and 3 beats it.
    scores = torch.tensor([[0.0, math.log(2), 9.0, 0.0], [math.log(3), 0.0, 0.0, math.log(5)]])
    masked = torch.tensor([[False, False, True, False], [False] * 4])
    loss, first = info_nce(scores, torch.tensor([1, 0]), masked, torch.tensor([0.75, 0.25]))
    assert loss.item() == pytest.approx(0.75 * -math.log(2 / 4) + 0.25 * -math.log(3 / 10), abs=1e-6)
    assert first.item() == 0.75


def test_info_nce_of_nothing_is_zero_with_a_graph() -> None:
    vectors = torch.ones(3, 2, requires_grad=True)
    empty = torch.zeros(0, dtype=torch.long)
    scores = vectors[:0] @ vectors.T
    loss, _ = info_nce(scores, empty, torch.zeros(0, 3, dtype=torch.bool), torch.zeros(0))
    loss.backward()
    assert loss.item() == 0.0 and vectors.grad is not None and not vectors.grad.any()


def world(
    seed: int = 0,
) -> tuple[list[str], list[str], list[tuple[str, str, int]], list[str | None], pa.Table]:
    """40 documents with duplicates and groups, 12 queries with one to four positives, and hard negatives."""
    random = np.random.default_rng(seed)
    texts = [" ".join(map(str, random.integers(10, 400, size=random.integers(2, 9)))) for _ in range(40)]
    texts[7], texts[21], texts[22] = texts[3], texts[3], texts[5]
    groups = [None if row % 5 == 0 else f"g{row // 4}" for row in range(40)]
    queries = [" ".join(map(str, random.integers(10, 400, size=random.integers(1, 7)))) for _ in range(12)]
    judged = [(f"q{q}", f"d{d}", 1) for q in range(12) for d in random.choice(40, 1 + q % 4, replace=False)]
    judged += [("q0", "d3", 1), ("q1", "d7", 1), ("q1", "d21", 1), ("q2", "d5", 1), ("q3", "d9", 0)]
    judged = list(dict.fromkeys(judged))
    # Some hard negatives are positives, or duplicates of positives, of their own query.
    hard = [(f"q{q}", f"d{d}") for q in range(12) for d in random.choice(40, 4, replace=False)]
    hard += [("q0", "d7"), ("q2", "d22"), ("q1", "d3"), ("q5", judged[9][1])]
    table = pa.table({"query_id": [q for q, _ in hard], "corpus_id": [d for _, d in hard]})
    return texts, queries, judged, groups, table


def drawn_by(
    batches: ContrastiveBatches, step: int, objective: WordTable, groups: bool
) -> list[oracle.Drawn]:
    """The step for the oracle, from the draws and the raw tables."""
    texts, queries, judged, group_of, _ = world()
    plan = batches.plan[step]
    result = []
    for place, query in enumerate(plan.queries.tolist()):
        name = batches.pairs.query_ids[query]
        positives = {int(document[1:]) for asker, document, grade in judged if asker == name and grade}
        relevant = {texts[row] for row in positives}
        if groups:
            own = {group_of[row] for row in positives} - {None}
            relevant |= {text for text, group in zip(texts, group_of, strict=True) if group in own}
        words = [int(word) for word in queries[int(name[1:])].split()]
        result.append(
            oracle.Drawn(
                objective.vector([*words, 2]),
                list(dict.fromkeys(texts[row] for row in plan.positives[plan.positive_of == place])),
                [texts[row] for row in plan.negatives[plan.negative_of == place]],
                relevant,
            )
        )
    return result


def vectors_of(objective: WordTable) -> dict[str, list[float]]:
    return {text: objective.vector([*map(int, text.split()), 1]) for text in world()[0]}


def build(**changes: object) -> tuple[ContrastiveBatches, WordTable]:
    texts, queries, judged, groups, table = world()
    collection = toy_collection(texts, queries, judged, groups)
    values = {"steps": 4, "batch_size": 7, "hard_negatives": 3, "temperature": TEMPERATURE}
    settings = FinetuneSettings(**{**values, **changes})
    pairs = TrainingPairs.collect(collection, table, "train")
    return ContrastiveBatches(pairs, collection, Words(), settings, seed=1), WordTable(settings)


@pytest.mark.parametrize("positives", [1, 3])
@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("ranks", [1, 2, 3, 9])
def test_step_equals_the_oracle_on_any_number_of_processes(
    monkeypatch: pytest.MonkeyPatch, positives: int, groups: bool, ranks: int
) -> None:
    batches, objective = build(positives=positives, mask_groups=groups, symmetric=True)
    for step in range(4):
        terms = all_ranks(monkeypatch, objective, batches, step, ranks)
        queries, vectors = drawn_by(batches, step, objective, groups), vectors_of(objective)
        forward = oracle.query_to_passage(queries, vectors, TEMPERATURE)
        backward = oracle.passage_to_query(queries, vectors, TEMPERATURE)
        assert terms["query_to_passage"].item() == pytest.approx(forward, abs=1e-12)
        assert terms["passage_to_query"].item() == pytest.approx(backward, abs=1e-12)
        assert terms["loss"].item() == pytest.approx((forward + backward) / 2, abs=1e-12)
        assert 0 <= terms["accuracy"].item() <= 1
    if positives == 3:
        assert max(len(query.positives) for query in queries) == 3


@pytest.mark.parametrize("symmetric", [False, True])
def test_gradient_is_the_same_on_any_number_of_processes(
    monkeypatch: pytest.MonkeyPatch, symmetric: bool
) -> None:
    batches, objective = build(positives=2, symmetric=symmetric, span_pairs=3)
    gradients = []
    for ranks in (1, 2, 5, 12):
        objective.zero_grad()
        all_ranks(monkeypatch, objective, batches, 0, ranks)["loss"].backward()
        gradients.append(objective.table.grad)
    assert float(gradients[0].norm()) > 0.1
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("ranks", [2, 3, 9])
def test_without_cross_device_negatives_a_process_sees_its_own_passages(
    monkeypatch: pytest.MonkeyPatch, ranks: int
) -> None:
    batches, objective = build(cross_device_negatives=False, positives=2)
    terms = all_ranks(monkeypatch, objective, batches, 1, ranks)
    queries, vectors = drawn_by(batches, 1, objective, False), vectors_of(objective)
    vector_of = {tuple(query.vector): query for query in queries}
    wanted, seen = 0.0, 0
    for rank in range(ranks):
        batch = batches.part(1, rank, ranks)[0]
        share = objective._own(batch, "query").tolist()
        own = [min(vector_of, key=lambda known: math.dist(known, row)) for row in share]
        members = [vector_of[known] for known in own]
        seen += len(members)
        if members:
            wanted += oracle.query_to_passage(members, vectors, TEMPERATURE, of=len(queries))
            assert len(batch["passage_ids"]) == len(oracle.texts_of(members))
    assert seen == len(queries)
    assert terms["loss"].item() == pytest.approx(wanted, abs=1e-12)
    assert terms["loss"].item() < oracle.query_to_passage(queries, vectors, TEMPERATURE) - 0.1


def test_masked_negatives_do_not_move_their_query() -> None:
    """A hard negative that is a judged positive, or its duplicate, changes nothing for its query."""
    texts = ["10 11", "20 21", "30 31", "10 11"]  # d3 repeats d0
    collection = toy_collection(texts, ["50", "60"], [("q0", "d0", 1), ("q0", "d1", 1), ("q1", "d2", 1)])
    losses = {}
    for name in (["d3"], ["d1"], []):
        table = pa.table({"query_id": ["q0"] * len(name), "corpus_id": pa.array(name, pa.string())})
        pairs = TrainingPairs.collect(collection, table, "train")
        settings = FinetuneSettings(steps=1, batch_size=2, hard_negatives=2, temperature=TEMPERATURE)
        batch = ContrastiveBatches(pairs, collection, Words(), settings, seed=0).part(0, 0, 1)[0]
        objective = WordTable(settings)
        row = batch["query_ids"][:, 0].tolist().index(50)
        kept = {key: value for key, value in batch.items() if key not in {"weights"}}
        losses[tuple(name)] = objective({**kept, "weights": torch.eye(2)[row]})["loss"].item()
    assert losses[("d3",)] == pytest.approx(losses[()], abs=1e-12)
    drawn_second = losses[("d1",)]
    assert drawn_second == pytest.approx(losses[()], abs=1e-12)
