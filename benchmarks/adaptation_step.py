"""The adaptation step (preset ``released``) side by side with the published one written plainly, in one run.

    .venv/bin/python benchmarks/adaptation_step.py [--rounds 3]
    .venv/bin/python benchmarks/adaptation_step.py --device cuda      (a Llama of 1B parameters in bfloat16)

Plain: tests/oracles/published_adaptation_step.py, rows of a batch in the order drawn, padded to the longest.
Ours: ``AdaptationBatches`` and ``AdaptationObjective``. Forward and backward pass with the making of the
batch, no optimiser. Loss and gradient norm of both are compared first. Times are medians of alternating
rounds; on a CPU they are CPU seconds of one thread, which other work on the machine disturbs least. Memory
is the peak above the level before the step, each way in a process of its own: resident memory (Linux:
VmHWM after a reset through /proc/self/clear_refs), or CUDA's allocator.
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
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]  # tests.oracles, adaptation_texts

from adaptation_texts import (  # noqa: E402
    EQUAL,
    REAL,
    Pairs,
    Shape,
    clock,
    make_model,
    make_pairs,
    read_texts,
    resident,
)

from llara_core.config import AdaptSettings  # noqa: E402
from llara_core.training.adaptation_rows import AdaptationBatches  # noqa: E402
from llara_core.training.adaptation_targets import TargetRule, TokenRows  # noqa: E402
from llara_core.training.flops import ForwardFlops, batch_work, peak_flops  # noqa: E402
from llara_core.training.micro_batches import cut_rule  # noqa: E402
from llara_core.training.objectives import AdaptationObjective  # noqa: E402
from tests.oracles.published_adaptation_step import (  # noqa: E402
    PublishedPrompts,
    published_batch,
    published_loss,
)

RESULTS = ROOT / "docs" / "results" / "adaptation_step.md"
OURS, PLAIN = "llara", "published step, plain"
# Deviation of loss and gradient norm that is still rounding, relative.
TOLERANCE = {"cpu": 1e-4, "cuda": 3e-2}
logger = logging.getLogger("adaptation_step")


@dataclass
class Task:
    """Rows and model that both ways work on.

    Args:
        shape: of model and step.
        prompts: around every text.
        model: with random weights.
        pairs: as many rows as the steps need.
    """

    shape: Shape
    prompts: PublishedPrompts
    model: Any
    pairs: Pairs

    @property
    def encoder(self) -> Any:
        """The prompts as ``AdaptationBatches`` takes them."""
        prompts = self.prompts
        return SimpleNamespace(
            prefix_ids=prompts.prefix, ebae_suffix_ids=prompts.ebae_suffix, pad_id=prompts.pad_id,
            ebar_suffix_ids=prompts.ebar_suffix, template=SimpleNamespace(slots_per_prompt=prompts.slots),
        )  # fmt: skip

    def our_batches(self) -> tuple[AdaptationBatches, AdaptSettings]:
        """All steps of ours, and their settings."""
        settings = AdaptSettings(
            preset="released", steps=len(self.pairs) // self.shape.batch, batch_size=self.shape.batch,
            text_length=self.shape.length,
        )  # fmt: skip
        excluded = np.zeros(self.model.config.vocab_size, dtype=bool)
        excluded[list(self.prompts.special_ids)] = True
        batches = AdaptationBatches(
            TokenRows.pack([text for text, _ in self.pairs]),
            TokenRows.pack([after for _, after in self.pairs]),
            self.encoder, TargetRule(excluded), settings, 0, cut_rule(self.shape.device, None),
        )  # fmt: skip
        return batches, settings

    def ours(self) -> list[float]:
        """Loss of every step of ours, its gradients added up in the model."""
        batches, settings = self.our_batches()
        objective = AdaptationObjective(self.model, settings, len(self.prompts.prefix))
        losses = []
        for step in range(len(batches)):
            loss = 0.0
            for batch in batches.part(step):
                terms = objective(_moved(batch, self.shape.device))
                terms["loss"].backward()
                loss += terms["loss"].item()
            losses.append(loss)
        return losses

    def plain_batches(self) -> Iterator[dict[str, Any]]:
        """The published batch of every step."""
        for start in range(0, len(self.pairs), self.shape.batch):
            rows = self.pairs[start : start + self.shape.batch]
            texts, following = [text for text, _ in rows], [after for _, after in rows]
            yield published_batch(texts, texts, following, self.prompts)

    def plain(self) -> list[float]:
        """The same, plainly."""
        losses = []
        for batch in self.plain_batches():
            loss = published_loss(self.model, _moved(batch, self.shape.device), self.prompts)
            loss.backward()
            losses.append(loss.item())
        return losses

    @property
    def ways(self) -> dict[str, Callable[[], list[float]]]:
        """Both by name."""
        return {OURS: self.ours, PLAIN: self.plain}

    def padding(self, way: str) -> float:
        """Share of the positions of all steps that are padding."""
        if way == OURS:
            batches = self.our_batches()[0]
            parts = [part["counts"] for step in range(len(batches)) for part in batches.part(step)]
            real, positions = torch.stack(parts).sum(dim=0).tolist()
        else:
            masks = [batch["attention_mask"] for batch in self.plain_batches()]
            real = sum(int(mask.sum()) for mask in masks)
            positions = sum(mask.numel() for mask in masks)
        return 1.0 - real / positions

    def flops(self) -> float:
        """Floating-point operations that the rows need, padding left out."""
        settings = AdaptSettings(preset="released", text_length=self.shape.length, batch_size=len(self.pairs))
        rule = TargetRule(np.zeros(self.model.config.vocab_size, dtype=bool))
        rows = [TokenRows.pack([pair[side] for pair in self.pairs]) for side in (0, 1)]
        batches = AdaptationBatches(rows[0], rows[1], self.encoder, rule, settings, 0)
        objective = AdaptationObjective(self.model, settings, len(self.prompts.prefix))
        forward = ForwardFlops(self.model)
        return 3.0 * sum(forward.total(batch_work(objective, batch)) for batch in batches.part(0))


def _moved(batch: dict[str, Any], device: str) -> dict[str, Any]:
    return {name: value.to(device) for name, value in batch.items()}


def times(task: Task, rounds: int) -> dict[str, float]:
    """Median seconds of each way over alternating rounds, after one that warms up and compares."""
    found: dict[str, list[float]] = {name: [] for name in task.ways}
    seen: dict[str, tuple[float, float]] = {}
    for number in range(rounds + 1):
        for name, way in task.ways.items():
            task.model.zero_grad(set_to_none=True)
            start = clock(task.shape.device)
            losses = way()
            if number:
                found[name].append(clock(task.shape.device) - start)
                logger.info("%s: %.2f s", name, found[name][-1])
            seen[name] = (sum(losses) / len(losses), _gradient_norm(task.model))
    # Steps of other rows have other gradients: they are only compared where there is one step.
    pairs = list(zip(*seen.values(), strict=True))[: 2 if len(task.pairs) == task.shape.batch else 0]
    for one, other in pairs:
        if abs(one - other) > TOLERANCE[task.shape.device] * abs(other):
            raise SystemExit(f"loss or gradient norm differ: {one} and {other}; not the same step")
    return {name: statistics.median(values) for name, values in found.items()}


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
        seconds, peak = times(task, chosen.rounds), memory(task)
        lines += [row(task, f"{case}: {kind}", name, seconds, peak) for name in task.ways]
        logger.info("%s\n%s", lines[-2], lines[-1])
    if chosen.output:
        chosen.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
        logger.info("wrote %s", chosen.output)
    return 0


def row(task: Task, case: str, name: str, seconds: dict[str, float], peak: dict[str, int]) -> str:
    """One line of the table."""
    prompt = len(task.prompts.prefix) + len(task.prompts.ebae_suffix) + len(task.prompts.ebar_suffix)
    tokens = sum(len(text) + prompt for text, _ in task.pairs) / seconds[name]
    cells = [
        case, name, f"{seconds[name]:.2f}", f"{seconds[PLAIN] / seconds[name]:.2f}", f"{tokens:,.0f}",
        f"{task.padding(name):.1%}", f"{peak[name] / 2**20:,.0f}", f"{peak[name] / peak[PLAIN]:.2f}",
    ]  # fmt: skip
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
