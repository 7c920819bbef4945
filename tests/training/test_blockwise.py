"""InfoNCE in blocks against InfoNCE on the whole matrix of scores: value and every gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from llara_core.config import FinetuneSettings
from llara_core.training import blockwise
from llara_core.training.blockwise import blockwise_info_nce
from llara_core.training.contrastive import ContrastiveObjective, info_nce

QUERIES, PASSAGES, WIDTH, TEMPERATURE = 7, 11, 5, 0.2
ROWS = torch.tensor([0, 1, 1, 2, 3, 4, 5, 5, 5, 6])  # several positives of some queries


def pieces() -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    queries, passages = (
        torch.randn(count, WIDTH, generator=generator, dtype=torch.float64).requires_grad_()
        for count in (QUERIES, PASSAGES)
    )
    targets = torch.randint(PASSAGES, (len(ROWS),), generator=generator)
    masked = torch.rand(len(ROWS), PASSAGES, generator=generator) < 0.3
    masked[torch.arange(len(ROWS)), targets] = False
    return queries, passages, (ROWS, targets, masked, torch.rand(len(ROWS), generator=generator))


def whole(queries: Tensor, passages: Tensor, pairs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    rows, targets, masked, weights = pairs
    return info_nce((queries @ passages.T / TEMPERATURE)[rows], targets, masked, weights)


@pytest.mark.parametrize("scores", [1, 25, 1 << 20], ids=["row by row", "two rows at a time", "at once"])
def test_value_and_gradients(monkeypatch: pytest.MonkeyPatch, scores: int) -> None:
    monkeypatch.setattr(blockwise, "BLOCK_SCORES", scores)
    queries, passages, pairs = pieces()
    wanted, first = whole(queries, passages, pairs)
    loss, accuracy = blockwise_info_nce(queries, passages, pairs, TEMPERATURE)
    torch.testing.assert_close(loss, wanted, atol=1e-12, rtol=0)
    assert 0 < float(first) < float(pairs[3].sum()) and float(accuracy) == pytest.approx(float(first))
    assert not accuracy.requires_grad
    # The factor stands for what comes after: half of a symmetric loss, the number of processes.
    expected = torch.autograd.grad(3.0 * wanted, (queries, passages))
    found = torch.autograd.grad(3.0 * loss, (queries, passages))
    for one, other in zip(found, expected, strict=True):
        assert float(other.abs().max()) > 0.1
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


def test_no_pair_and_no_gradient() -> None:
    queries, passages, pairs = pieces()
    none = tuple(part[:0] for part in pairs)
    loss, accuracy = blockwise_info_nce(queries, passages, none, TEMPERATURE)  # type: ignore[arg-type]
    assert float(loss) == float(accuracy) == 0.0
    assert torch.autograd.grad(loss, queries)[0].abs().max() == 0
    with torch.no_grad():
        loss, _ = blockwise_info_nce(queries, passages, pairs, TEMPERATURE)
    torch.testing.assert_close(loss, whole(queries, passages, pairs)[0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("teacher", [False, True])
def test_objective_is_the_same_either_way(
    monkeypatch: pytest.MonkeyPatch, symmetric: bool, teacher: bool
) -> None:
    queries, passages, (rows, targets, masked, weights) = pieces()
    batch = {"rows": rows, "targets": targets, "masked": masked, "weights": weights}
    batch |= {
        "back_targets": rows,
        "back_masked": torch.zeros(len(rows), QUERIES, dtype=torch.bool),
    }
    changes: dict[str, object] = {"symmetric": symmetric}
    if teacher:
        columns = torch.arange(3).repeat(QUERIES, 1)
        batch |= {"teacher_columns": columns, "teacher_scores": columns.double(),
                  "teacher_weights": torch.full((QUERIES,), 1.0 / QUERIES)}  # fmt: skip
        changes["distillation_weight"] = 0.5
    objective = ContrastiveObjective(torch.nn.Linear(1, 1), FinetuneSettings(**changes), slots=1)
    terms = []
    for scores in (1 << 20, 20):
        monkeypatch.setattr(blockwise, "BLOCK_SCORES", scores)
        terms.append(objective._charge(queries, passages, batch))
    gradients = [torch.autograd.grad(found["loss"], (queries, passages)) for found in terms]
    assert terms[0].keys() == terms[1].keys()
    for name, value in terms[0].items():
        torch.testing.assert_close(terms[1][name], value, atol=1e-10, rtol=0, msg=name)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=0)
