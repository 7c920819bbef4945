"""Is a stage still learning, and what does it cost: checks of losses and gradients, warnings, memory.

Source: issue 3, point 9.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llara_core.errors import TrainingError
from llara_core.training.distributed import sum_of_tensors, use_cpu

logger = logging.getLogger(__name__)

# A loss is flat when its mean over the last FLAT_LINES log lines is not FLAT_IMPROVEMENT lower, relative to
# itself, than over the FLAT_LINES before them.
FLAT_LINES = 10
FLAT_IMPROVEMENT = 0.002
# Below this share of the highest learning rate a flat loss is the end of the schedule, not a fault.
FLAT_RATE_SHARE = 0.2
# Embeddings of different texts have collapsed when their mean cosine is this high this often in a row; an
# untrained model starts there, so the first lines do not count.
COLLAPSE_COSINE = 0.98
COLLAPSE_LINES = 5


class HealthWatch:
    """Warns once when a stage stops learning, from its log lines.

    Args:
        stage: name for messages.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._losses: deque[float] = deque(maxlen=2 * FLAT_LINES)
        self._highest_rate = 0.0
        self._collapsed = 0
        self._warned: set[str] = set()

    def observe(self, step: int, line: dict[str, float]) -> list[str]:
        """Look at one log line; returns (and logs) the warnings that it gave rise to.

        Args:
            step: of the line, from 1.
            line: ``loss``, ``learning_rate`` and perhaps ``mean_cosine``.
        """
        self._losses.append(line["loss"])
        rate = line["learning_rate"]
        self._highest_rate = max(self._highest_rate, rate)
        found = [self._flat(step, rate), self._collapse(step, line.get("mean_cosine"))]
        messages = [message for message in found if message]
        for message in messages:
            logger.warning(message)
        return messages

    def _flat(self, step: int, rate: float) -> str | None:
        if "flat" in self._warned or len(self._losses) < 2 * FLAT_LINES:
            return None
        losses = list(self._losses)
        before, now = sum(losses[:FLAT_LINES]) / FLAT_LINES, sum(losses[FLAT_LINES:]) / FLAT_LINES
        if before - now > FLAT_IMPROVEMENT * abs(before) or rate < FLAT_RATE_SHARE * self._highest_rate:
            return None
        self._warned.add("flat")
        return (
            f"{self.stage}: the loss is flat: {now:.4f} on average over the last {FLAT_LINES} log lines up "
            f"to step {step}, {before:.4f} over the {FLAT_LINES} before; expected a fall of at least "
            f"{FLAT_IMPROVEMENT:.1%}. Change {self.stage}.learning_rate, or stop earlier"
        )

    def _collapse(self, step: int, cosine: float | None) -> str | None:
        self._collapsed = self._collapsed + 1 if cosine is not None and cosine >= COLLAPSE_COSINE else 0
        if "collapse" in self._warned or self._collapsed < COLLAPSE_LINES:
            return None
        self._warned.add("collapse")
        return (
            f"{self.stage}: the embeddings have collapsed: the mean cosine between different texts is "
            f"{cosine:.4f} at step {step}, and was at least {COLLAPSE_COSINE} for {COLLAPSE_LINES} log "
            "lines; expected clearly less than 1. A model from scratch needs adapt.preset: from_scratch "
            f"(frequency prior and IDF weights); otherwise lower {self.stage}.learning_rate"
        )

    def state(self) -> dict[str, Any]:
        """Plain values from which ``restore`` goes on."""
        return {
            "losses": list(self._losses),
            "highest_rate": self._highest_rate,
            "collapsed": self._collapsed,
            "warned": sorted(self._warned),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state()``."""
        self._losses.clear()
        self._losses.extend(state["losses"])
        self._highest_rate, self._collapsed = state["highest_rate"], state["collapsed"]
        self._warned = set(state["warned"])


class MeanCosine:
    """How alike the embeddings of a step's texts are, however the step is cut and shared.

    The cosines of all pairs of different rows add up to |sum of the unit vectors|^2 - rows, so a sum [D] and
    a count are all that micro-batches and processes have to add.
    """

    def __init__(self) -> None:
        self._sum: Tensor | None = None  # [D + 1] of this process: the unit vectors' sum, and their number

    @torch.no_grad()
    def add(self, vectors: Tensor) -> None:
        """Count a micro-batch.

        Args:
            vectors: [B, D], embeddings of B texts; of any length and dtype. B may be 0.
        """
        unit = torch.nn.functional.normalize(vectors.detach().float(), dim=-1).double()
        share = torch.cat([unit.sum(dim=0), unit.new_full((1,), float(len(unit)))])
        self._sum = share if self._sum is None else self._sum + share

    def end_step(self) -> dict[str, Tensor]:
        """``cosine_sum`` and ``cosine_pairs`` over all pairs of the step; nothing where there was no vector.

        All processes take part, and all are told the same.
        """
        if self._sum is None:
            return {}
        total, self._sum = sum_of_tensors(self._sum), None
        rows = total[-1]
        return {"cosine_sum": total[:-1].square().sum() - rows, "cosine_pairs": rows * (rows - 1)}


def not_finite(
    stage: str, step: int, steps: int, what: str, place: str, checkpoint: Path | None, applied: bool = False
) -> TrainingError:
    """The error for a loss or gradient that is not finite.

    Args:
        stage: its name.
        step: the step that failed, from 1.
        steps: of the stage.
        what: ``loss`` or ``gradient``.
        place: which process, micro-batch and rows; perhaps empty.
        checkpoint: the last good checkpoint, if there is one.
        applied: the weights have been updated by it already.
    """
    update = "DeepSpeed has applied the update" if applied else "the update was not applied"
    kept = "Nothing was saved" if checkpoint is None else f"The last good checkpoint is {checkpoint}"
    return TrainingError(
        f"{stage}: the {what} is not finite at step {step} of {steps} (batch {step - 1}{place}); {update}. "
        f"Lower {stage}.learning_rate, or raise {stage}.warmup_fraction. {kept}"
    )


def peak_memory() -> int:
    """Most memory that this process held so far, bytes: of its GPU if it has one, else resident."""
    if torch.cuda.is_available() and not use_cpu():
        return int(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most if sys.platform == "darwin" else most * 1024)  # kilobytes but on macOS
