"""Whose rows are whose: the steps of a stage, dealt to processes and cut into micro-batches.

A stage is planned from its seed alone, so that every process can compute its own share of any step and
nothing has to be sent. The shares of all processes together are the step's batch, however many there are.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from torch import Tensor
from torch.utils.data import Dataset

MICRO_BATCHES = "micro_batches"


class StepBatches(Protocol):
    """What ``train`` trains on.

    A micro-batch maps names to tensors. It holds ``counts``, int64 [2]: its real tokens and its computed
    positions, padding included; ``row_ids``, int64 [B], is optional and named when a step fails. The module
    sees neither. All that it needs to scale its loss (the rows or targets of the whole step) is in the
    micro-batch, so that the losses of all micro-batches of all processes add up to the step's loss.
    """

    def __len__(self) -> int:
        """Number of optimiser steps."""
        ...

    def part(self, step: int, rank: int, world: int) -> list[dict[str, Tensor]]:
        """The micro-batches of one process's share of a step, at least one.

        Args:
            step: from 0.
            rank: of the process.
            world: number of processes.
        """
        ...


class RankedSteps(Dataset[dict[str, Any]]):
    """The steps as transformers' Trainer wants them: item ``i`` is the share of process ``i % world``.

    accelerate deals consecutive items to the processes in turn (``BatchSamplerShard``), so with one item a
    batch every process receives its own share of step 0, then of step 1, and so on.

    Args:
        batches: the steps.
        world: number of processes.
        ahead: make the next share in a thread while a GPU works on this one. Every step ends with a look at
            its gradient, so a GPU would else wait for the share; a CPU has no time to spare.
    """

    def __init__(self, batches: StepBatches, world: int, *, ahead: bool = False) -> None:
        self.batches, self.world = batches, world
        self._thread = ThreadPoolExecutor(max_workers=1) if ahead else None
        self._next: tuple[int, Future[dict[str, Any]]] | None = None

    def __len__(self) -> int:
        """Steps times processes."""
        return len(self.batches) * self.world

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``{"micro_batches": [...]}`` of step ``index // world``."""
        if self._thread is None:
            return self._make(index)
        made = self._next
        item = made[1].result() if made is not None and made[0] == index else self._make(index)
        following = index + self.world
        self._next = None
        if following < len(self):
            self._next = following, self._thread.submit(self._make, following)
        return item

    def _make(self, index: int) -> dict[str, Any]:
        return {MICRO_BATCHES: self.batches.part(index // self.world, index % self.world, self.world)}


def only_item(items: list[dict[str, Any]]) -> dict[str, Any]:
    """The collator for batches of one item."""
    return items[0]
