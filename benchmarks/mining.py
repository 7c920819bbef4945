"""Mining hard negatives side by side with sentence-transformers, in one run.

    .venv/bin/python benchmarks/mining.py [--passages 20000] [--queries 2000] [--rounds 5]

Same texts, same vectors handed in by both ways' own caches, same filter (5% below the positive), same window,
as many negatives. What both mined is compared first: nothing is written unless they agree. Times: medians of
alternating rounds in one process of one thread, of CPU time, which other programs disturb less. Memory: above
the level before the first call, each way in a process of its own. Writes docs/results/mining.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TQDM_DISABLE"] = "1"

import peak_memory
from mining_task import DIMENSION, NEGATIVES, OURS, OURS_PLAIN, WAYS, WINDOW, WORDS, Task, Triples

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results" / "mining.md"
AGREE = 0.999  # share of the negatives of both ways that are the same; rounding may swap neighbours
logger = logging.getLogger("mining")


def measure(ways: dict[str, Callable[[], Triples]], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each way; the ways alternate, so that a busy moment hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.process_time()
            way()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def agreement(first: Triples, second: Triples) -> float:
    """Share of the query-negative pairs that both ways mined."""
    return len(first & second) / max(1, len(first | second))


def memory_of(name: str, chosen: argparse.Namespace, folder: Path) -> float:
    """Highest memory of one way above the level before it, MiB, in a process of its own."""
    sizes = ["--passages", str(chosen.passages), "--queries", str(chosen.queries)]
    return peak_memory.told_by(__file__, name, "--folder", str(folder), *sizes)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--passages", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-of", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def page(chosen: argparse.Namespace, found: dict[str, dict[str, float]]) -> list[str]:
    """The table, line by line."""
    lines = [
        "# Mining",
        "",
        f"Written by `{command(chosen)}`: {chosen.queries:,} queries on {chosen.passages:,} passages of "
        f"{WORDS} words, vectors of {DIMENSION} dimensions from either way's cache, {NEGATIVES} negatives "
        f"a query from the first {WINDOW} ranks, at least 5% below the positive; sentence-transformers "
        f"{version('sentence-transformers')} (`mine_hard_negatives`), FAISS {version('faiss-cpu')}, one "
        f"thread. Medians of {chosen.rounds} alternating rounds of CPU time; memory is the highest above the "
        "level before the call, each way in its own process. All ways mine the same negatives (the share in "
        f"the last column; under {AGREE:.1%} nothing would be written).",
        "",
        "| way | seconds | llara's plain speed against it | memory, MB | of its memory llara needs "
        "| same negatives |",
        "|---|---|---|---|---|---|",
    ]
    own = found[OURS_PLAIN]
    for name in WAYS:
        one = found[name]
        lines.append(
            f"| {name} | {one['seconds']:.2f} | {one['seconds'] / own['seconds']:.2f}x | {one['memory']:.0f} "
            f"| {own['memory'] / one['memory']:.0%} | {one['same']:.1%} |"
        )
    lines += [
        "",
        f"`{OURS_PLAIN}` does what sentence-transformers does and writes its audit besides; `{OURS}` also "
        "compares the words of every negative with the positives', as by default. sentence-transformers' own "
        "default searches with torch, not with FAISS.",
    ]
    return lines


def command(chosen: argparse.Namespace) -> str:
    """What was run, for the page."""
    sizes = "" if (chosen.passages, chosen.queries) == (20_000, 2_000) else (
        f" --passages {chosen.passages} --queries {chosen.queries}"
    )  # fmt: skip
    return f"benchmarks/mining.py{sizes}" if sizes else "make bench"


def main() -> int:
    """Compare, measure and write the table; exits 0."""
    chosen = parse()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logger.setLevel(logging.INFO)
    if chosen.memory_of:
        with tempfile.TemporaryDirectory(prefix="llara-") as scratch:  # loads what is imported late
            Task(500, 50, Path(scratch)).ways((chosen.memory_of,))[chosen.memory_of]()
        way = Task(chosen.passages, chosen.queries, chosen.folder).ways((chosen.memory_of,))[chosen.memory_of]
        sys.stdout.write(f"{peak_memory.above(way)}\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="llara-") as scratch:
        ways = Task(chosen.passages, chosen.queries, Path(scratch)).ways(WAYS)
        mined = {name: way() for name, way in ways.items()}  # also fills the caches, and warms up
        found: dict[str, dict[str, float]] = {}
        for name, triples in mined.items():
            found[name] = {"same": agreement(triples, mined[OURS_PLAIN])}
            if found[name]["same"] < AGREE:
                raise SystemExit(
                    f"{name} and {OURS_PLAIN} share {found[name]['same']:.1%} of their negatives"
                )
        for name, seconds in measure(ways, chosen.rounds).items():
            found[name] |= {"seconds": seconds, "memory": memory_of(name, chosen, Path(scratch))}
            logger.info("%s: %.3f s, %.0f MB", name, seconds, found[name]["memory"])
    RESULTS.write_text("\n".join(page(chosen, found)) + "\n", encoding="utf-8")
    logger.info("wrote %s", RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
