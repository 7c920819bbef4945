"""Encoding side by side with SentenceTransformer.encode and with a plain loop, in one run.

    .venv/bin/python benchmarks/encoding.py [--documents 5000] [--rounds 3] [--device cuda]

Same weights, pooling, lengths and token ids; the vectors are compared first. Times: medians of alternating
rounds in one process, on a CPU the time of its one thread, which other programs do not disturb. Memory:
highest above the level before, each way in a process of its own. Writes docs/results/encoding.md (on a GPU
encoding_cuda.md, with tokens/s and the share of its peak).
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import peak_memory
import torch
from contrastive_task import ROOT
from encoding_task import (
    BATCH,
    LONGEST,
    MODELS,
    OURS,
    PEER,
    PLAIN,
    SHORTEST,
    WAYS,
    Task,
    Way,
    build,
    our_way,
    ways_of,
)  # fmt: skip

RESULTS = ROOT / "docs" / "results" / "encoding.md"
DOCUMENTS = 5000
TOLERANCE = {"cpu": 1e-5, "cuda": 2e-2}  # of a vector's numbers: float32, and bfloat16
BUDGETS = {"cpu": (512, 1024, 2048, 4096, 8192), "cuda": (8192, 16384, 32768, 65536, 131072)}
logger = logging.getLogger("encoding")


def check(ways: dict[str, Way], device: str) -> float:
    """Greatest difference between any way's vectors and ours; ends the run when it is not rounding."""
    wanted = ways[OURS]()
    worst = max(float(np.abs(way() - wanted).max()) for way in ways.values())
    if worst > TOLERANCE[device]:
        raise SystemExit(f"the ways do not give the same vectors: they differ by {worst:.1e}")
    return worst


def measure(ways: dict[str, Way], rounds: int, device: str) -> dict[str, float]:
    """Median seconds of each way; the ways alternate, so that a busy moment hits all of them."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            if device == "cuda":
                torch.cuda.synchronize()
            started = clock()
            way()  # ends with the vectors in host memory
            times[name].append(clock() - started)
        logger.info("round %d: %s", number, {name: round(found[-1], 2) for name, found in times.items()})
    return {name: statistics.median(found) for name, found in times.items()}


def memory_of(name: str, folder: Path, chosen: argparse.Namespace) -> float:
    """Highest memory of one way above the level before it, MiB, in a process of its own."""
    same = ["--device", chosen.device, "--documents", str(chosen.documents)]
    return peak_memory.told_by(__file__, name, "--folder", str(folder), *same)


def utilisation(task: Task, seconds: float) -> float | None:
    """Share of the GPU's peak that one forward pass over the real tokens is; None where none is known."""
    from llara_core.training.flops import ForwardFlops, peak_flops

    peak = peak_flops(torch.cuda.get_device_name(), bfloat16=True)
    lengths = torch.from_numpy(task.lengths).double()
    work = torch.stack([lengths.sum(), lengths.square().sum(), lengths.new_zeros(())])
    flops = ForwardFlops(task.retriever._decoder).total(work)
    return None if peak is None else flops / seconds / peak


def table(
    task: Task, chosen: argparse.Namespace, found: dict[str, dict[str, float]], worst: float
) -> list[str]:
    """The page, line by line."""
    cuda, model = chosen.device == "cuda", MODELS[chosen.device]
    device = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} thread"
    quarters = np.percentile(task.lengths, [0, 25, 50, 75, 100]).astype(int).tolist()
    lines = [
        "# Encoding",
        "",
        f"Written by `{command(chosen)}`: {len(task.texts):,} passages of about {SHORTEST} to {LONGEST} "
        f"tokens, spread evenly on a logarithmic scale (quartiles {', '.join(map(str, quarters))}; words of "
        f"{task.data}), in no order; a Llama of {model.layers} layers and hidden size {model.hidden_size}, "
        f"random weights, last token pooled, {'bfloat16' if cuda else 'float32'}, {device}; "
        f"sentence-transformers {version('sentence-transformers')}, torch "
        f"{torch.__version__.split('+')[0]}, Python {platform.python_version()}. All ways work on the same "
        f"decoder and token ids; their vectors differ by at most {worst:.0e}. Medians of {chosen.rounds} "
        f"alternating rounds{'' if cuda else ' of CPU time'}, tokenisation included; memory is the highest "
        "above the level before, each way in its own process.",
        "",
        "| way | seconds | tokens/s | times llara's | memory, MB |" + (" of the peak |" if cuda else ""),
        "|---|---|---|---|---|" + ("---|" if cuda else ""),
    ]
    own = found[OURS]["seconds"]
    tokens = int(task.lengths.sum())
    for name in WAYS:
        seconds = found[name]["seconds"]
        share = utilisation(task, seconds) if cuda else None
        tail = ("" if share is None else f" {share:.0%}") + " |" if cuda else ""
        lines.append(
            f"| `{name}` | {seconds:.2f} | {tokens / seconds:,.0f} | {seconds / own:.2f} "
            f"| {found[name]['memory']:.0f} |{tail}"
        )
    lines += [
        "",
        f"`{PEER}` sorts by characters and takes {BATCH} texts a batch; "
        f"`{PLAIN}` takes {BATCH} as they come. "
        "llara sorts by tokens, fills batches up to a number of padded tokens, "
        "leaves out the mask that a causal decoder does not need over padding on the right, "
        "and computes the last layer only where it is read "
        f"(which saves the more, the fewer layers there are; here {model.layers}).",
        "",
        "| padded tokens a batch | seconds |",
        "|---|---|",
        *(f"| {name} | {one['seconds']:.2f} |" for name, one in found.items() if name not in WAYS),
    ]
    return lines


def command(chosen: argparse.Namespace) -> str:
    """What was run, for the page."""
    if chosen.device == "cpu" and chosen.documents == DOCUMENTS:
        return "make bench"
    return f"benchmarks/encoding.py --device {chosen.device} --documents {chosen.documents}"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=list(MODELS), default="cpu")
    parser.add_argument("--memory-of", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Compare, measure and write the page; exits 0."""
    chosen = parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if chosen.device == "cpu":
        torch.set_num_threads(1)
        os.environ["RAYON_NUM_THREADS"] = "1"  # the tokenizer's threads, before it starts any
    if chosen.memory_of:
        task = build(chosen.folder, chosen.device, chosen.documents)
        (way,) = ways_of(task, (chosen.memory_of,)).values()
        sys.stdout.write(f"{peak_memory.above(way, chosen.device)}\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="llara-") as scratch:
        task = build(Path(scratch), chosen.device, chosen.documents)
        ways = ways_of(task)
        worst = check(ways, chosen.device)
        logger.info("vectors differ by at most %.1e", worst)
        budgets = {f"{budget:,}": our_way(task, budget) for budget in BUDGETS[chosen.device]}
        seconds = measure({**ways, **budgets}, chosen.rounds, chosen.device)
        found = {name: {"seconds": value} for name, value in seconds.items()}
        for name in WAYS:
            found[name]["memory"] = memory_of(name, Path(scratch), chosen)
        lines = table(task, chosen, found, worst)
    target = RESULTS if chosen.device == "cpu" else RESULTS.with_stem(f"{RESULTS.stem}_{chosen.device}")
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    logger.info("wrote %s", target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
