"""The contrastive step side by side with sentence-transformers' losses, in one run.

    .venv/bin/python benchmarks/contrastive_step.py [--rounds 3] [--device cuda --dtype bfloat16]

Same model, same adapters, same texts: 24 queries with one positive and seven negatives each. Loss and
gradients of all ways are compared first. Times: medians of alternating steps in one process, on a CPU the
time of its one thread, which other programs do not disturb. Memory: above the level before the first step,
each way in a process of its own. Writes docs/results/contrastive_step.md.
"""

from __future__ import annotations

import argparse
import logging
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import peak_memory
import torch
from contrastive_task import (
    DTYPES,
    MODEL,
    NEGATIVES,
    OURS_CACHED,
    PEER,
    PEER_CACHED,
    QUERIES,
    RANK,
    ROOT,
    WAYS,
    Task,
    build,
    steps_of,
)  # fmt: skip
from torch import Tensor

RESULTS = ROOT / "docs" / "results" / "contrastive_step.md"
# Of the loss and of the gradient as one vector, relative to sentence-transformers' plain loss.
TOLERANCE = {"float32": 1e-3, "bfloat16": 1e-1}
logger = logging.getLogger("contrastive_step")


def deviations(task: Task, steps: dict[str, Callable[[], Tensor]]) -> dict[str, tuple[float, float, float]]:
    """Loss, and the relative deviations of loss and gradient from those of the plain peer."""
    losses: dict[str, float] = {}
    gradients: dict[str, Tensor] = {}
    for name, step in steps.items():
        task.model.zero_grad()
        losses[name] = float(step())
        trained = [weights.grad for weights in task.model.parameters() if weights.grad is not None]
        gradients[name] = torch.cat([gradient.flatten().double() for gradient in trained])
    wanted = gradients[PEER]
    return {
        name: (
            loss,
            abs(loss / losses[PEER] - 1),
            float((gradients[name] - wanted).norm() / wanted.norm()),
        )
        for name, loss in losses.items()
    }


def measure(task: Task, steps: dict[str, Callable[[], Tensor]], rounds: int) -> dict[str, float]:
    """Median seconds of each way; the ways alternate, so that a busy moment hits all of them."""
    clock = time.perf_counter if task.model.device.type == "cuda" else time.process_time
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            task.model.zero_grad()
            _wait(task)
            start = clock()
            step()
            _wait(task)
            times[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def _wait(task: Task) -> None:
    if task.model.device.type == "cuda":
        torch.cuda.synchronize()


def peak_megabytes(task: Task, step: Callable[[], Tensor]) -> float:
    """Highest memory of two steps above the level before them."""

    def twice() -> None:
        step()
        task.model.zero_grad()
        step()

    return peak_memory.above(twice, task.model.device.type)


def memory_of(name: str, folder: Path, chosen: argparse.Namespace) -> float:
    """Highest memory of one way above the level before it, MiB, in a process of its own."""
    same = ["--device", chosen.device, "--dtype", chosen.dtype]
    return peak_memory.told_by(__file__, name, "--folder", str(folder), *same)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32")
    parser.add_argument("--memory-of", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def table(task: Task, chosen: argparse.Namespace, found: dict[str, dict[str, float]]) -> list[str]:
    """The page, line by line."""
    lengths = torch.cat([column["attention_mask"].sum(dim=1) for column in task.columns[1:]]).double()
    device = (
        torch.cuda.get_device_name() if chosen.device == "cuda" else f"CPU, {torch.get_num_threads()} thread"
    )
    lines = [
        "# Contrastive step",
        "",
        f"Written by `{command(chosen)}`: {QUERIES} queries with one positive and {NEGATIVES} negatives each "
        f"({QUERIES * (1 + NEGATIVES)} passages of {task.data}, {lengths.mean():.0f} tokens on average, "
        f"{lengths.max():.0f} at most), a Llama of {MODEL.layers} layers and hidden size {MODEL.hidden_size} "
        f"with LoRA of rank {RANK}, forward and backward, {chosen.dtype}, {device}; sentence-transformers "
        f"{version('sentence-transformers')}, torch {torch.__version__.split('+')[0]}, "
        f"Python {platform.python_version()}. All ways work on the same decoder and the same token ids. "
        f"Medians of {chosen.rounds} alternating rounds{'' if chosen.device == 'cuda' else ' of CPU time'}; "
        "memory is the highest above the level before the first step, each way in its own process. Losses "
        f"and gradients deviate from those of `{PEER}` by what the last columns say, relatively; above "
        f"{TOLERANCE[chosen.dtype]:g} nothing would be written.",
        "",
        "| way | ms a step | speed | memory, MB | loss | its deviation | gradient's deviation |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in WAYS:
        own = found[name]
        peer = found[PEER_CACHED if name in (OURS_CACHED, PEER_CACHED) else PEER]
        lines.append(
            f"| `{name}` | {own['seconds'] * 1000:.0f} | {peer['seconds'] / own['seconds']:.2f}x "
            f"| {own['memory']:.0f} | {own['loss']:.6f} | {own['loss_deviation']:.0e} "
            f"| {own['gradient_deviation']:.0e} |"
        )
    lines += [
        "",
        f"`speed` is against `{PEER}`, with gradient caching against `{PEER_CACHED}`. "
        "What makes the difference is padding: sentence-transformers pads the passages of a step (cached: of "
        "a column) to the longest of them, here rows of like length share a sub-batch.",
    ]
    return lines


def command(chosen: argparse.Namespace) -> str:
    """What was run, for the page."""
    if chosen.device == "cpu" and chosen.dtype == "float32":
        return "make bench"
    return f"benchmarks/contrastive_step.py --device {chosen.device} --dtype {chosen.dtype}"


def main() -> int:
    """Compare, measure and write the table; exits 0."""
    chosen = parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    if chosen.memory_of:
        task = build(chosen.folder, chosen.device, chosen.dtype)
        (step,) = steps_of(task, (chosen.memory_of,)).values()
        sys.stdout.write(f"{peak_megabytes(task, step)}\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="llara-") as scratch:
        task = build(Path(scratch), chosen.device, chosen.dtype)
        steps = steps_of(task, WAYS)
        found: dict[str, dict[str, float]] = {}
        for name, (loss, of_loss, of_gradient) in deviations(task, steps).items():
            logger.info("%s: loss %.6f, gradient off by %.1e", name, loss, of_gradient)
            if max(of_loss, of_gradient) > TOLERANCE[chosen.dtype]:
                raise SystemExit(f"{name} and {PEER} do not compute the same step")
            found[name] = {"loss": loss, "loss_deviation": of_loss, "gradient_deviation": of_gradient}
        for name, seconds in measure(task, steps, chosen.rounds).items():
            found[name]["seconds"] = seconds
            found[name]["memory"] = memory_of(name, Path(scratch), chosen)
            logger.info("%s: %.0f ms, %.0f MB", name, seconds * 1000, found[name]["memory"])
        lines = table(task, chosen, found)
    target = RESULTS if chosen.device == "cpu" else RESULTS.with_stem(f"{RESULTS.stem}_{chosen.device}")
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    logger.info("wrote %s", target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
