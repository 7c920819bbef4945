"""What every step draws, who encodes what, and the spans."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from llara_core.config import FinetuneSettings
from llara_core.data.collection import Collection
from llara_core.errors import TrainingError
from llara_core.training.pairs import ContrastiveBatches, TrainingPairs, plan_steps
from llara_core.training.sub_batches import computed_positions, length_chunks
from tests.training.contrastive_toys import NO_NEGATIVES, Words, toy_collection

TEXTS = ["10 11 12 13 14", "20 21 22 23", "10 11 12 13 14", "30 31 32 33", "40 41 42 43 44 45"]
JUDGED = [
    ("q0", "d0", 1),
    ("q0", "d1", 1),
    ("q1", "d2", 1),
    ("q2", "d3", 1),
    ("q2", "d4", 0),
    ("q2", "dX", 1),
]


def make() -> Collection:
    return toy_collection(TEXTS, ["50", "51", "52"], JUDGED)


def test_chunks_cover_all_rows_once() -> None:
    lengths = torch.tensor([100] * 20 + [70] * 5 + [10] * 30)
    assert length_chunks(lengths) == [(0, 20), (20, 36), (36, 55)]
    assert length_chunks(torch.tensor([5])) == [(0, 1)]
    assert length_chunks(torch.tensor([], dtype=torch.long)) == []
    # A bound counts padding; a row that is longer than it stands alone.
    assert length_chunks(torch.tensor([9, 4, 4, 4, 1]), 8) == [(0, 1), (1, 3), (3, 5)]
    assert computed_positions(torch.tensor([9, 4, 4, 4, 1]), 8) == 9 + 8 + 8


def test_duplicates_and_judged_positives_are_no_negatives() -> None:
    collection = make()
    negatives = pa.table({"query_id": ["q2", "q1"], "corpus_id": ["d4", "d1"]})
    pairs = TrainingPairs.collect(collection, negatives, "train")
    assert [rows.tolist() for rows in pairs.positives] == [[0, 1], [2], [3]]
    assert pairs.text_of.tolist() == [0, 1, 0, 3, 4]
    settings = FinetuneSettings(steps=8, batch_size=3, hard_negatives=1)
    batches = ContrastiveBatches(pairs, collection, Words(), settings, seed=0)
    for step in range(8):
        (batch,) = batches.part(step, 0, 1)
        passages = [row[0].item() // 10 for row in batch["passage_ids"]]
        assert len(set(passages)) == len(passages)  # d0 and d2 are one text: encoded once
        allowed = {50: {1, 2}, 51: {1}, 52: {3}}
        for row, query in enumerate(batch["query_ids"][:, 0].tolist()):
            own = passages[int(batch["targets"][row])]
            assert own in allowed[query]
            hidden = {passages[col] for col in torch.where(batch["masked"][row])[0].tolist()}
            assert hidden == (allowed[query] & set(passages)) - {own}
        assert 4 in passages and 2 in passages  # the hard negatives are there


def test_groups_are_masked_on_request() -> None:
    # d0 and d1 are of one article, d3 repeats a text of it in another; d2 is of no group.
    collection = toy_collection(
        ["10", "20", "30", "20", "40"], ["50", "51", "52", "53"],
        [("q0", "d0", 1), ("q1", "d2", 1), ("q2", "d3", 1), ("q3", "d4", 1)], ["a", "a", None, "b", ""],
    )  # fmt: skip
    table = pa.table({"query_id": ["q1"], "corpus_id": ["d1"]})
    pairs = TrainingPairs.collect(collection, table, "train")
    assert pairs.group_of.tolist() == [0, 0, -1, 3, -1]
    for groups, hidden in ((False, set()), (True, {(50, 20)})):
        settings = FinetuneSettings(steps=1, batch_size=4, mask_groups=groups)
        (batch,) = ContrastiveBatches(pairs, collection, Words(), settings, seed=0).part(0, 0, 1)
        queries, passages = (batch[f"{side}_ids"][:, 0].tolist() for side in ("query", "passage"))
        seen = {(queries[row], passages[col]) for row, col in batch["masked"].nonzero().tolist()}
        assert seen == hidden


def test_plan_depends_on_the_seed_alone_and_covers_every_query() -> None:
    pairs = TrainingPairs.collect(make(), pa.table({"query_id": ["q2"], "corpus_id": ["d4"]}), "train")
    settings = FinetuneSettings(steps=6, batch_size=1, span_pairs=2)
    one, same, other = (plan_steps(pairs, settings, seed) for seed in (0, 0, 1))
    key = [[step.documents.tolist(), step.starts.tolist()] for step in one]
    assert key == [[step.documents.tolist(), step.starts.tolist()] for step in same]
    assert key != [[step.documents.tolist(), step.starts.tolist()] for step in other]
    assert sorted(int(step.queries[0]) for step in one[:3]) == [0, 1, 2]
    many = plan_steps(pairs, settings.model_copy(update={"steps": 60}), 0)
    assert {int(step.positives[0]) for step in many} == {0, 1, 2, 3}


def test_several_positives_are_drawn_without_repeats_of_a_text() -> None:
    texts = ["10", "20", "10", "30", "40"]
    judged = [("q0", f"d{row}", 1) for row in range(5)] + [("q1", "d4", 1)]
    collection = toy_collection(texts, ["50", "51"], judged)
    pairs = TrainingPairs.collect(collection, NO_NEGATIVES, "train")
    drawn = set()
    for step in plan_steps(pairs, FinetuneSettings(steps=30, batch_size=2, positives=3), seed=0):
        own = {int(query): step.positives[step.positive_of == at] for at, query in enumerate(step.queries)}
        texts_drawn = pairs.text_of[own[0]].tolist()
        assert len(set(texts_drawn)) == len(texts_drawn) == 3
        assert own[1].tolist() == [4]
        drawn |= set(texts_drawn)
    assert drawn == {0, 1, 3, 4}


@pytest.mark.parametrize("world", [2, 3, 7])
def test_shares_are_the_step_dealt_out_evenly(world: int) -> None:
    random = np.random.default_rng(0)
    texts = [
        " ".join(["9"] * int(size)) + f" {row + 10}" for row, size in enumerate(random.integers(1, 7, 60))
    ]
    judged = [(f"q{row}", f"d{row}", 1) for row in range(60)]
    collection = toy_collection(texts, [f"{row + 100}" for row in range(60)], judged)
    pairs = TrainingPairs.collect(collection, NO_NEGATIVES, "train")
    batches = ContrastiveBatches(
        pairs, collection, Words(), FinetuneSettings(steps=1, batch_size=31, span_pairs=4), seed=0
    )
    (whole,) = batches.part(0, 0, 1)
    parts = [batches.part(0, rank, world)[0] for rank in range(world)]
    for side in ("query", "passage"):
        rows = [
            row[:n].tolist()
            for part in parts
            for row, n in zip(part[f"{side}_ids"], part[f"{side}_lengths"], strict=True)
        ]
        wanted = [
            row[:n].tolist() for row, n in zip(whole[f"{side}_ids"], whole[f"{side}_lengths"], strict=True)
        ]
        assert sorted(rows) == sorted(wanted)
        tokens = [int(part[f"{side}_lengths"].sum()) for part in parts]
        assert max(tokens) - min(tokens) <= int(whole[f"{side}_lengths"].max())
        for part in parts:
            assert np.all(np.diff(part[f"{side}_lengths"].numpy()) <= 0)
    assert sum(float(part["weights"].sum()) for part in parts) == pytest.approx(1.0, abs=1e-12)
    real = sum(int(part["counts"][0]) for part in parts)
    assert real == int(whole["counts"][0]) <= int(whole["counts"][1])


def test_more_processes_than_queries_leave_a_row_to_stand_in() -> None:
    pairs = TrainingPairs.collect(make(), NO_NEGATIVES, "train")
    batches = ContrastiveBatches(pairs, make(), Words(), FinetuneSettings(steps=1, batch_size=2), seed=0)
    (batch,) = batches.part(0, 4, 5)
    assert batch["query_shares"].tolist() == [1, 1, 0, 0, 0] and int(batch["rank"]) == 4
    assert len(batch["query_ids"]) == len(batch["passage_ids"]) == 1
    assert not len(batch["targets"]) and not len(batch["weights"])


def test_span_pairs_lie_inside_their_document() -> None:
    pairs = TrainingPairs.collect(make(), NO_NEGATIVES, "train")
    settings = FinetuneSettings(steps=5, batch_size=1, span_pairs=6)
    batches = ContrastiveBatches(pairs, make(), Words(), settings, seed=0)
    spans = 0
    for step in range(5):
        (batch,) = batches.part(step, 0, 1)
        for row, length in enumerate(batch["query_lengths"].tolist()):
            ids = batch["query_ids"][row, : length - 1].tolist()
            if len(ids) > 1:  # not one of the one-word queries
                spans += 1
                own = batch["passage_ids"][int(batch["targets"][row])].tolist()
                assert len(ids) >= 4 and any(own[at : at + len(ids)] == ids for at in range(len(own)))
        assert np.all(np.diff(batch["query_lengths"].numpy()) <= 0)
    assert spans == 30


def test_no_positive_in_the_corpus() -> None:
    with pytest.raises(TrainingError, match="no query of split 'train' has a relevant document"):
        TrainingPairs.collect(toy_collection(TEXTS, ["50"], [("q0", "dX", 1)]), NO_NEGATIVES, "train")
