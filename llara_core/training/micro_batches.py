"""Which rows of a step share a forward pass: little padding, few calls, a bound on memory.

Source: issue 3, point 4 (variable-length text without padding waste).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CutRule:
    """How rows are cut into micro-batches.

    Args:
        call_cost: what one more forward and backward pass costs, in token positions.
        most: most positions of a micro-batch, padding included; a longer row has one of its own.
    """

    call_cost: int
    most: int


# A call costs a gradient of both embeddings besides its overhead: on a CPU, configs/demo.yaml's model is
# slower at 128 and as fast at 512 as in one call. Beyond some thousand positions only memory grows.
RULES = {"cpu": CutRule(call_cost=512, most=8192), "cuda": CutRule(call_cost=512, most=8192)}


def cut_rule(device: str, micro_batch_tokens: int | None) -> CutRule:
    """The rule for a device; ``micro_batch_tokens`` replaces its bound.

    Args:
        device: e.g. ``cpu`` or ``cuda:0``.
        micro_batch_tokens: of the settings; None: what is fastest.
    """
    rule = RULES.get(device.partition(":")[0], RULES["cuda"])
    return rule if micro_batch_tokens is None else CutRule(rule.call_cost, micro_batch_tokens)


def share_of(lengths: np.ndarray, rank: int, world: int) -> np.ndarray:
    """The rows of one process, longest first: int64 [about B / world].

    Every process gets each ``world``-th row by length, in turns from either end, so that all have about
    the same number of tokens.

    Args:
        lengths: int64 [B].
        rank: of the process.
        world: number of processes.
    """
    order = np.argsort(-lengths, kind="stable")
    turns = [order[start : start + world] for start in range(0, len(order), world)]
    places = [rank if number % 2 == 0 else world - 1 - rank for number in range(len(turns))]
    # The last turn may be short: its rows go to whoever the place says, or to nobody.
    mine = [turn[place] for turn, place in zip(turns, places, strict=True) if place < len(turn)]
    return np.asarray(mine, dtype=np.int64)


def cut(lengths: np.ndarray, rule: CutRule) -> list[slice]:
    """The cheapest cut of rows sorted by falling length into micro-batches, by dynamic programming.

    A micro-batch costs its rows times its longest row, and a call.

    Args:
        lengths: int64 [B], falling.
        rule: cost of a call and bound.

    Returns:
        Slices that cover all rows in order; none for no rows.
    """
    count = len(lengths)
    best = np.zeros(count + 1, dtype=np.int64)  # cost of the rows from here on
    after = np.zeros(count, dtype=np.int64)  # where the micro-batch that starts here ends
    for start in range(count - 1, -1, -1):
        width = max(int(lengths[start]), 1)
        end = min(count, start + max(1, rule.most // width))
        costs = np.arange(1, end - start + 1) * width + best[start + 1 : end + 1]
        choice = int(costs.argmin())
        after[start], best[start] = start + 1 + choice, rule.call_cost + costs[choice]
    slices, start = [], 0
    while start < count:
        slices.append(slice(start, int(after[start])))
        start = int(after[start])
    return slices
