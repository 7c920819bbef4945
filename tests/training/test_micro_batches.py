"""How rows are shared out and cut: everything once, evenly, within bounds, as cheap as trying all cuts."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from llara_core.training.micro_batches import CutRule, cut, cut_rule, share_of


def cost(lengths: list[int], slices: list[slice], call_cost: int) -> int:
    """Padded positions of all micro-batches, and their calls."""
    return sum(call_cost + max(lengths[piece]) * len(lengths[piece]) for piece in slices)


def all_cuts(count: int) -> list[list[slice]]:
    """Every way to cut ``count`` rows into consecutive pieces."""
    ways = []
    for pieces in range(count):
        for inner in combinations(range(1, count), pieces):
            edges = [0, *inner, count]
            ways.append([slice(a, b) for a, b in pairwise(edges)])
    return ways


@pytest.mark.parametrize("call_cost", [0, 7, 1000])
def test_no_cut_is_cheaper(call_cost: int) -> None:
    lengths = sorted(np.random.default_rng(1).integers(1, 60, 9).tolist(), reverse=True)
    found = cut(np.array(lengths), CutRule(call_cost, 10_000))
    assert cost(lengths, found, call_cost) == min(cost(lengths, way, call_cost) for way in all_cuts(9))


def test_pieces_cover_all_rows_within_the_bound() -> None:
    lengths = np.sort(np.random.default_rng(0).integers(1, 300, 100))[::-1]
    slices = cut(lengths, CutRule(500, 256))
    assert [row for piece in slices for row in range(piece.start, piece.stop)] == list(range(100))
    for piece in slices:
        rows = lengths[piece]
        assert rows.max() * len(rows) <= 256 or len(rows) == 1
    assert cut(np.zeros(0, dtype=np.int64), CutRule(1, 1)) == []


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_shares_are_all_rows_once_and_about_equal(world: int) -> None:
    lengths = np.random.default_rng(0).integers(10, 1000, 64)
    shares = [share_of(lengths, rank, world) for rank in range(world)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(64))
    tokens = [int(lengths[share].sum()) for share in shares]
    assert max(tokens) - min(tokens) < 1000  # less than one row apart
    for share in shares:
        assert (np.diff(lengths[share]) <= 0).all()


def test_more_processes_than_rows() -> None:
    shares = [share_of(np.array([5, 9]), rank, 4).tolist() for rank in range(4)]
    assert shares == [[1], [0], [], []]


def test_the_setting_replaces_the_bound_of_the_device() -> None:
    assert cut_rule("cuda:1", None) == cut_rule("cuda", None)
    assert cut_rule("xpu", 77) == cut_rule("cuda", 77)  # some other accelerator
    assert cut_rule("cpu", 77) == CutRule(cut_rule("cpu", None).call_cost, 77)
