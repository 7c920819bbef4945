"""Batches under a budget of tokens."""

from __future__ import annotations

from llara_core.model.encoding import token_budget_batches


def test_token_budget_batches() -> None:
    assert token_budget_batches([2, 9, 3, 3], 6) == [[1], [2, 3], [0]]
