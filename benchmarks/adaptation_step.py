"""The adaptation step (preset ``released``) side by side with the published one written plainly, in one run.

    .venv/bin/python benchmarks/adaptation_step.py [--rounds 3]
    .venv/bin/python benchmarks/adaptation_step.py --device cuda      (a Llama of 1B parameters in bfloat16)

Plain: tests/oracles/published_adaptation_step.py, rows of a batch in the order drawn, padded to the longest.
Ours: ``AdaptationBatches`` and ``AdaptationObjective``. Forward and backward pass with the making of the
batch, no optimiser. Loss and gradient norm of both are compared first. Times are medians of alternating
rounds; on a CPU they are CPU seconds of one thread, which other work on the machine disturbs least. Memory
is the peak above the level before the step, each way in a process of its own: resident memory (Linux:
VmHWM after a reset through /proc/self/clear_refs), or CUDA's allocator. On a CPU, equal lengths have a third
row: the matrix products that both ways must do, alone (benchmarks/matrix_products.py), in the same rounds.
Writes docs/results/adaptation_step.md, on CUDA adaptation_step_cuda.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import statistics
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]  # tests.oracles, adaptation_texts

from adaptation_task import PLAIN, Task  # noqa: E402
from adaptation_texts import (  # noqa: E402
    EQUAL,
    REAL,
    Shape,
    clock,
    make_model,
    make_pairs,
    read_texts,
    resident,
)
from matrix_products import BOUND, prepared, products_of  # noqa: E402

from llara_core.training.flops import peak_flops  # noqa: E402
from tests.oracles.published_adaptation_step import PublishedPrompts  # noqa: E402

RESULTS = ROOT / "docs" / "results" / "adaptation_step.md"
# Deviation of loss and gradient norm that is still rounding, relative.
TOLERANCE = {"cpu": 1e-4, "cuda": 3e-2}
ABOUT_BOUND = (
    f"The row “{BOUND}” is what no exact step made of torch's products can beat on this machine: those of "
    "all linear layers over all positions, and of the output embedding over the predicted ones, forward and "
    "backward, with attention, softmax and all else left out."
)
logger = logging.getLogger("adaptation_step")


def times(task: Task, rounds: int, bound: bool = False) -> dict[str, float]:
    """Median seconds of each way over alternating rounds, after one that warms up and compares.

    Args:
        task: rows and model.
        rounds: that are timed.
        bound: time the bare matrix products too, as a way of their own (on a CPU).
    """
    found: dict[str, list[float]] = {name: [] for name in task.ways}
    seen: dict[str, tuple[float, float]] = {}
    products = prepared(products_of(task.model, task.work())) if bound else None
    for number in range(rounds + 1):
        for name, way in task.ways.items():
            task.model.zero_grad(set_to_none=True)
            start = clock(task.shape.device)
            losses = way()
            if number:
                found[name].append(clock(task.shape.device) - start)
                logger.info("%s: %.2f s", name, found[name][-1])
            seen[name] = (sum(losses) / len(losses), _gradient_norm(task.model))
        if products:
            seconds = products()
            found.setdefault(BOUND, []).extend([seconds] if number else [])
    if len(task.pairs) == task.shape.batch:  # steps of other rows have other gradients
        _compare(*seen.values(), TOLERANCE[task.shape.device])
    return {name: statistics.median(values) for name, values in found.items()}


def _compare(first: tuple[float, float], second: tuple[float, float], tolerance: float) -> None:
    for one, other in zip(first, second, strict=True):
        if abs(one - other) > tolerance * abs(other):
            raise SystemExit(f"loss or gradient norm differ: {one} and {other}; not the same step")


def _gradient_norm(model: Any) -> float:
    norms = [parameter.grad.float().norm() for parameter in model.parameters() if parameter.grad is not None]
    return torch.stack(norms).norm().item()


def own_memory(task: Task, way: str) -> int:
    """Peak bytes above the level before the step, in this process."""
    step, shape = task.ways[way], task.shape
    whole, task.pairs = task.pairs, [(text[:8], after[:8]) for text, after in task.pairs[:1]]
    task.shape = replace(shape, batch=1)
    step()  # libraries allocate their own the first time
    task.shape, task.pairs = shape, whole
    task.model.zero_grad(set_to_none=True)
    gc.collect()
    if shape.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    step()
    return resident("VmHWM") - before


def memory(task: Task) -> dict[str, int]:
    """Peak bytes of each way, measured by a process of its own."""
    found = {}
    for way in task.ways:
        asked = {"shape": asdict(task.shape), "pairs": task.pairs, "way": way}
        asked["prompts"] = {**asdict(task.prompts), "special_ids": sorted(task.prompts.special_ids)}
        done = subprocess.run(
            [sys.executable, __file__, "--memory-of-stdin"],
            input=json.dumps(asked), check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        found[way] = int(done.stdout.split()[-1])
    return found


def answer(asked: dict[str, Any]) -> int:
    """What ``memory`` asked of this process."""
    shape = Shape(**asked["shape"])
    prompts = PublishedPrompts(**asked["prompts"])
    return own_memory(Task(shape, prompts, make_model(shape), asked["pairs"]), asked["way"])


def main() -> int:
    """Measure and write the table; exits 0."""
    chosen = parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    if chosen.device == "cpu":
        torch.set_num_threads(1)
    if chosen.memory_of_stdin:
        sys.stdout.write(f"{answer(json.load(sys.stdin))}\n")
        return 0
    shape = Shape(chosen.hidden, chosen.layers, chosen.length, chosen.batch, chosen.steps, chosen.device)
    lines = header(shape, chosen.rounds)
    prompts, texts, source = read_texts()
    for case, kind in ((EQUAL, "random ids"), (REAL, source)):
        task = Task(shape, prompts, make_model(shape), make_pairs(shape, case, prompts, texts))
        seconds = times(task, chosen.rounds, bound=case == EQUAL and shape.device == "cpu")
        peak = memory(task)
        lines += [row(task, f"{case}: {kind}", name, seconds, peak) for name in seconds]
        logger.info("%s", "\n".join(lines[-len(seconds) :]))
    if chosen.output:
        chosen.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
        logger.info("wrote %s", chosen.output)
    return 0


def row(task: Task, case: str, name: str, seconds: dict[str, float], peak: dict[str, int]) -> str:
    """One line of the table."""
    prompt = len(task.prompts.prefix) + len(task.prompts.ebae_suffix) + len(task.prompts.ebar_suffix)
    tokens = sum(len(text) + prompt for text, _ in task.pairs) / seconds[name]
    cells = [case, name, f"{seconds[name]:.2f}", f"{seconds[PLAIN] / seconds[name]:.2f}", f"{tokens:,.0f}"]
    cells += (
        [f"{task.padding(name):.1%}", f"{peak[name] / 2**20:,.0f}", f"{peak[name] / peak[PLAIN]:.2f}"]
        if name in task.ways
        else ["", "", ""]
    )
    if task.shape.device == "cuda":
        limit = peak_flops(torch.cuda.get_device_name(), bfloat16=True)
        cells.append("unknown" if limit is None else f"{task.flops() / seconds[name] / limit:.0%}")
    return f"| {' | '.join(cells)} |"


def header(shape: Shape, rounds: int) -> list[str]:
    """Title, conditions and the table's head."""
    columns = ["rows", "step", "s a round", "speed", "tokens/s", "padding", "peak memory, MiB", "share"]
    columns += ["model FLOPs utilisation"] if shape.device == "cuda" else []
    where = (
        f"{torch.cuda.get_device_name()}, bfloat16" if shape.device == "cuda" else "one CPU thread, float32"
    )
    return [
        f"# Adaptation step{' on a GPU' if shape.device == 'cuda' else ''}",
        "",
        "Written by `make bench` (`benchmarks/adaptation_step.py`): a Llama with random weights, hidden size "
        f"{shape.hidden}, {shape.layers} layers, vocabulary 32,016, rows of at most {shape.length:,} tokens, "
        f"{shape.batch} a step; preset `released`; {where}, torch {torch.__version__.split('+')[0]}; medians "
        f"of {rounds} alternating rounds. Equal lengths: one step a round; real lengths: {shape.steps}. "
        "Speed is against the published step, memory above the level before the step.",
        *([] if shape.device == "cuda" else ["", ABOUT_BOUND]),
        "",
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
    ]


def parse() -> argparse.Namespace:
    """The command line; on CUDA the defaults are a model of about 1B parameters."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--hidden", type=int)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--memory-of-stdin", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    hidden, layers, batch = (256, 2, 8) if chosen.device == "cpu" else (2048, 18, 32)
    chosen.hidden, chosen.layers = chosen.hidden or hidden, chosen.layers or layers
    chosen.batch = chosen.batch or batch
    usual = (chosen.device, chosen.hidden, chosen.layers, chosen.length) == ("cpu", 256, 2, 1024)
    on_gpu = RESULTS.with_name("adaptation_step_cuda.md")
    chosen.output = chosen.output or (RESULTS if usual else on_gpu if chosen.device == "cuda" else None)
    return chosen


if __name__ == "__main__":
    sys.exit(main())
