"""EBAE and EBAR against loops; what the published code computed is in test_golden."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from llara_core.training.adaptation_targets import (
    TargetRule,
    TokenRows,
    inverse_document_frequency,
    log_unigram,
)
from llara_core.training.objectives import bag_of_words_loss, reduce_slots
from tests.oracles.bag_of_words import bag_of_words_oracle


def test_bag_of_words_equals_loops() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 11)
    rows, ids = torch.tensor([0, 0, 2]), torch.tensor([4, 9, 1])
    weights = torch.tensor([0.25, 0.75, 1.0])
    expected = bag_of_words_oracle(logits, [{4: 1.0, 9: 3.0}, {}, {1: 5.0}])
    assert bag_of_words_loss(logits, rows, ids, weights).item() == pytest.approx(expected, abs=1e-6)


def test_uniform_logits_cost_log_vocabulary() -> None:
    loss = bag_of_words_loss(torch.zeros(1, 8), torch.tensor([0]), torch.tensor([3]), torch.ones(1))
    assert loss.item() == pytest.approx(math.log(8))


def test_no_target_is_no_loss_and_no_nan_gradient() -> None:
    logits = torch.randn(2, 5, requires_grad=True)
    none = torch.zeros(0, dtype=torch.long)
    bag_of_words_loss(logits, none, none, torch.zeros(0)).backward()
    assert torch.equal(logits.grad, torch.zeros(2, 5))


def test_reduction_over_slots() -> None:
    logits = torch.tensor([[[1.0, 5.0], [3.0, 1.0]]])
    assert reduce_slots(logits, "max").tolist() == [[3.0, 5.0]]
    assert reduce_slots(logits, "mean").tolist() == [[2.0, 3.0]]


def test_targets_unique_and_all_without_special_tokens() -> None:
    excluded = np.zeros(10, dtype=bool)
    excluded[0] = True
    texts = [np.array([3, 3, 0, 4]), np.array([0]), np.array([7])]
    rows, ids, weights = TargetRule(excluded).targets(texts)
    assert (rows.tolist(), ids.tolist(), weights.tolist()) == ([0, 0, 2], [3, 4, 7], [0.5, 0.5, 1.0])
    weights = TargetRule(excluded, all_occurrences=True).targets(texts)[2]
    assert weights.tolist() == pytest.approx([2 / 3, 1 / 3, 1.0])
    idf = np.ones(10, dtype=np.float32)
    idf[3], idf[7] = 3.0, 0.0  # a row whose only word weighs nothing has no target
    rows, _, weights = TargetRule(excluded, token_weights=idf).targets(texts)
    assert (rows.tolist(), weights.tolist()) == ([0, 0], [0.75, 0.25])


def test_prior_and_idf_by_hand() -> None:
    rows = TokenRows.pack([[1, 1, 2], [1]])
    idf = inverse_document_frequency(rows, 4)
    assert idf.tolist() == pytest.approx([math.log(3), 0.0, math.log(1.5), math.log(3)], abs=1e-6)
    occurrences = log_unigram(rows, 4, once_per_row=False).exp().tolist()
    assert occurrences == pytest.approx([1 / 8, 4 / 8, 2 / 8, 1 / 8])
    documents = log_unigram(rows, 4, once_per_row=True).exp().tolist()
    assert documents == pytest.approx([1 / 7, 3 / 7, 2 / 7, 1 / 7])
