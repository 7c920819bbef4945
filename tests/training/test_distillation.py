"""Distillation: KL by hand and against loops, who is taught, and what is refused."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
import torch

from llara_core.config import FinetuneSettings
from llara_core.errors import ConfigError, DataError, TrainingError
from llara_core.training.distillation import TeacherScores, check_teacher, kl_to_teacher
from llara_core.training.pairs import ContrastiveBatches, TrainingPairs
from tests.oracles import contrastive_oracle as oracle
from tests.training.contrastive_toys import NO_NEGATIVES, Words, WordTable, all_ranks, toy_collection

TEXTS = ["10 11", "20 21 22", "30", "10 11", "40 41 42 43"]  # d3 repeats d0
QUERIES = ["50", "51 52", "53"]
JUDGED = [("q0", "d0", 1), ("q1", "d1", 1), ("q2", "d2", 1)]


def table(rows: list[tuple[str, str, float | None]]) -> pa.Table:
    names = ("query_id", "corpus_id", "score")
    return (
        pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])
        if rows
        else pa.table({name: [] for name in names})
    )


def test_kl_by_hand() -> None:
    # Query 0: teacher 3/4, 1/4 over columns 2 and 0; student 1/2, 1/2. Query 1 has no teacher.
    student = torch.tensor([[0.0, 9.0, 0.0], [1.0, 2.0, 3.0]])
    columns = torch.tensor([[2, 0, 0], [0, 0, 0]])
    scores = torch.tensor([[2 * math.log(3), 0.0, -math.inf], [-math.inf] * 3])
    settings = FinetuneSettings(distillation_weight=1.0, distillation_temperature=2.0)
    value = kl_to_teacher(student, columns, scores, torch.tensor([1.0, 0.0]), settings)
    by_hand = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert value.item() == pytest.approx(by_hand, abs=1e-6)


def test_a_student_that_agrees_has_no_loss_and_no_gradient() -> None:
    student = torch.tensor([[0.3, -1.2, 2.0]], dtype=torch.float64, requires_grad=True)
    columns = torch.arange(3)[None]
    settings = FinetuneSettings(distillation_weight=1.0)
    value = kl_to_teacher(student, columns, student.detach() + 5.0, torch.ones(1), settings)
    value.backward()
    assert abs(value.item()) < 1e-12 and student.grad is not None
    assert float(student.grad.abs().max()) < 1e-12


def test_step_without_a_teacher_for_anyone_is_finite() -> None:
    student = torch.zeros(2, 3, requires_grad=True)
    scores = torch.full((2, 1), -math.inf)
    columns = torch.zeros(2, 1, dtype=torch.long)
    kl_to_teacher(student, columns, scores, torch.zeros(2), FinetuneSettings()).backward()
    assert student.grad is not None and not student.grad.any()


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_step_equals_the_oracle(monkeypatch: pytest.MonkeyPatch, ranks: int) -> None:
    collection = toy_collection(TEXTS, QUERIES, JUDGED)
    hard = pa.table({"query_id": ["q0", "q0", "q1", "q2"], "corpus_id": ["d4", "d3", "d4", "d1"]})
    taught = {
        "q0": {"10 11": 2.0, "40 41 42 43": -1.0, "30": 7.0},  # d2 is no candidate of q0
        "q1": {"20 21 22": 0.5, "40 41 42 43": 0.25},
        "q2": {"30": 1.0},  # a single score says nothing
    }
    teacher = table(
        [("q0", "d3", 2.0), ("q0", "d4", -1.0), ("q0", "d2", 7.0), ("q1", "d1", 0.5), ("q1", "d4", 0.25),
         ("q2", "d2", 1.0), ("q9", "d1", 1.0), ("q1", "d9", 1.0)]
    )  # fmt: skip
    settings = FinetuneSettings(
        steps=1, batch_size=3, hard_negatives=2, temperature=0.4, distillation_weight=0.7,
        distillation_temperature=1.5,
    )  # fmt: skip
    pairs = TrainingPairs.collect(collection, hard, "train")
    scores = TeacherScores.collect(teacher, collection, pairs)
    batches = ContrastiveBatches(pairs, collection, Words(), settings, 0, scores)
    objective = WordTable(settings)
    texts = {text: objective.vector([*map(int, text.split()), 1]) for text in TEXTS}
    queries = [
        oracle.Drawn(objective.vector([*map(int, QUERIES[row].split()), 2]), [TEXTS[row]], hard_texts,
                     {TEXTS[row]}, taught[f"q{row}"])
        for row, hard_texts in enumerate([[TEXTS[4], TEXTS[3]], [TEXTS[4]], [TEXTS[1]]])
    ]  # fmt: skip
    terms = all_ranks(monkeypatch, objective, batches, 0, ranks)
    divergence = oracle.distillation(queries, texts, 0.4, 1.5)
    contrastive = oracle.query_to_passage(queries, texts, 0.4)
    assert divergence > 0.05
    assert terms["distillation"].item() == pytest.approx(divergence, abs=1e-12)
    assert terms["loss"].item() == pytest.approx(contrastive + 0.7 * divergence, abs=1e-12)


def test_weight_and_teacher_belong_together() -> None:
    teacher = table([("q0", "d0", 1.0)])
    with pytest.raises(ConfigError, match=r"distillation_weight is 0\.5, and there is no teacher"):
        check_teacher(FinetuneSettings(distillation_weight=0.5), None)
    with pytest.raises(ConfigError, match="a teacher is given"):
        check_teacher(FinetuneSettings(), teacher)
    check_teacher(FinetuneSettings(), None)
    check_teacher(FinetuneSettings(distillation_weight=0.5), teacher)


def test_tables_that_cannot_teach() -> None:
    collection = toy_collection(TEXTS, QUERIES, JUDGED)
    pairs = TrainingPairs.collect(collection, NO_NEGATIVES, "train")
    with pytest.raises(DataError, match="lacks score"):
        TeacherScores.collect(table([("q0", "d0", 1.0)]).drop_columns(["score"]), collection, pairs)
    for bad in (math.nan, math.inf, None):
        with pytest.raises(DataError, match="expected a finite number"):
            TeacherScores.collect(table([("q0", "d0", 1.0), ("q0", "d1", bad)]), collection, pairs)
    for rows in ([], [("q9", "d0", 1.0)], [("q0", "d9", 1.0)]):
        with pytest.raises(TrainingError, match="scores no document of any training query"):
            TeacherScores.collect(table(rows), collection, pairs)
