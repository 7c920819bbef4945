"""Exact search side by side with FAISS used plainly and with torch, in one run.

    .venv/bin/python benchmarks/exact_search.py [--documents 100000 1000000] [--threads 2] [--device cpu]

Writes docs/results/exact_search.md: medians of alternating rounds as ratios, and the memory of each way.
FAISS's index is built before the clock runs, and so is our corpus prepared; what a search costs whose corpus
is not prepared stands beside it.
`--threads 1 2` measures each number of threads in a process of its own. `--device cuda` lets FAISS and torch
use the GPU and adds the share of the memory bandwidth that reading the corpus once would need.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results" / "exact_search.md"
DIMENSION, DEPTH = 256, 100
QUERIES = (64, 200, 1000)
OURS, UNPREPARED, FAISS, TORCH = "llara", "llara, unprepared", "FAISS, plain", "torch"
Vectors = NDArray[np.float32]
Way = Callable[[Vectors], NDArray[np.int64]]
logger = logging.getLogger("exact_search")


def llara_way(corpus: Vectors, device: str) -> Way:
    """``llara_core.retrieval.exact.search`` of a corpus that was prepared before, as an open index is."""
    from llara_core.retrieval.exact import search
    from llara_core.retrieval.exact_prepared import Prepared

    prepared = Prepared(corpus)
    return lambda queries: search(queries, prepared, DEPTH)[1]


def unprepared_way(corpus: Vectors, device: str) -> Way:
    """The same of vectors as they are; it takes FAISS's GPU by itself."""
    from llara_core.retrieval.exact import search

    return lambda queries: search(queries, corpus, DEPTH)[1]


def faiss_way(corpus: Vectors, device: str) -> Way:
    """IndexFlatIP as its documentation shows it, the index built before."""
    import faiss

    plain = faiss.cvar.distance_compute_blas_threshold
    index = faiss.IndexFlatIP(corpus.shape[1])
    if device == "cuda":
        index = faiss.index_cpu_to_all_gpus(index)
    index.add(corpus)

    def way(queries: Vectors) -> NDArray[np.int64]:
        # Our search lowers this process-wide threshold; the plain user has the library's own.
        faiss.cvar.distance_compute_blas_threshold = plain
        return np.asarray(index.search(queries, DEPTH)[1])

    return way


def torch_way(corpus: Vectors, device: str) -> Way:
    """A matrix product and topk."""
    import torch

    held = torch.from_numpy(corpus).to(device)

    def way(queries: Vectors) -> NDArray[np.int64]:
        return (torch.from_numpy(queries).to(device) @ held.T).topk(DEPTH).indices.cpu().numpy()

    return way


WAYS: dict[str, Callable[[Vectors, str], Way]] = {
    OURS: llara_way,
    UNPREPARED: unprepared_way,
    FAISS: faiss_way,
    TORCH: torch_way,
}


def vectors(count: int, seed: int) -> Vectors:
    """Normally distributed vectors [count, DIMENSION]."""
    return np.random.default_rng(seed).standard_normal((count, DIMENSION), dtype=np.float32)


def agree(answers: dict[str, NDArray[np.int64]]) -> None:
    """Stop if a way finds something else than ours; rounding may swap the last place of a list."""
    for name, rows in answers.items():
        shared = np.mean([len(set(a) & set(b)) for a, b in zip(rows, answers[OURS], strict=True)])
        if shared < DEPTH - 1:
            raise SystemExit(f"{name} and llara share {shared:.1f} of {DEPTH} results: not the same search")


def measure(documents: int, rounds: int, device: str) -> list[dict[str, Any]]:
    """Median seconds of each way; the ways alternate, so that a busy moment hits all of them."""
    corpus = vectors(documents, 0)
    ways = {name: make(corpus, device) for name, make in WAYS.items()}
    found = []
    for count in QUERIES:
        queries = vectors(count, count)
        agree({name: way(queries) for name, way in ways.items()})  # also warms up
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                start = time.perf_counter()
                way(queries)
                times[name].append(time.perf_counter() - start)
        seconds = {name: statistics.median(values) for name, values in times.items()}
        found.append({"queries": count, "documents": documents, "seconds": seconds})
        logger.info("%d documents, %d queries: %s", documents, count, seconds)
    return found


def memory(name: str, documents: int, device: str) -> float:
    """MiB that a way's largest search needs at its peak beside the corpus, in this process alone."""
    import torch  # whoever encodes has it loaded, and ours multiplies by it then

    corpus, queries = vectors(documents, 0), vectors(max(QUERIES), 1)
    WAYS[name](corpus[:2000], device)(queries[:8])  # what importing and the first call take
    some = torch.from_numpy(corpus[:2000]).to(torch.bfloat16)
    torch.mm(some[:100], some.T)
    before = peak()
    WAYS[name](corpus, device)(queries)
    return peak() - before


def peak() -> float:
    """Largest MiB this process has held; not ru_maxrss, which a child inherits from its parent on Linux."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("the kernel does not tell the peak memory of a process; use Linux")


def apart(threads: int, *arguments: str) -> Any:
    """What this script prints as JSON in a process of its own with that many threads."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def table(runs: dict[int, list[dict[str, Any]]], device: str) -> list[str]:
    """Rows of times and ratios; on a GPU with the bandwidth that reading the corpus once amounts to."""
    more = ["corpus read, GB/s"] if device == "cuda" else []
    heads = ["threads", "documents", "queries", "llara, ms", "FAISS used plainly, times llara's"]
    heads += ["torch, times llara's", "llara unprepared, times llara's", *more]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for threads, rows in runs.items():
        for row in rows:
            own = row["seconds"][OURS]
            ratios = [f"{row['seconds'][name] / own:.2f}" for name in (FAISS, TORCH, UNPREPARED)]
            rate = f" {row['documents'] * DIMENSION * 4 / own / 1e9:.0f} |" if more else ""
            cells = [
                str(threads),
                f"{row['documents']:,}",
                f"{row['queries']:,}",
                f"{own * 1000:.0f}",
                *ratios,
            ]
            lines.append(f"| {' | '.join(cells)} |{rate}")
    return lines


def page(chosen: argparse.Namespace) -> str:
    """Measure everything and lay it out."""
    import faiss
    import torch

    shared = ["--rounds", str(chosen.rounds), "--device", chosen.device]
    sizes = [str(count) for count in chosen.documents]
    runs = {count: apart(count, "--worker", "--documents", *sizes, *shared) for count in chosen.threads}
    lines = [
        "# Exact search",
        "",
        f"Written by `make bench`: vectors of {DIMENSION} dimensions, the best {DEPTH}, on {chosen.device}, "
        f"FAISS {faiss.__version__}, torch {torch.__version__.split('+')[0]}, numpy {np.__version__}; "
        f"medians of {chosen.rounds} alternating rounds. FAISS's index is built before, and so is llara's "
        "corpus prepared (`exact_prepared.Prepared`, `Index.prepare`: vectors rounded to bfloat16 once, not "
        "by every search). All ways find the same.",
        "",
        *table(runs, chosen.device),
        "",
        f"Peak memory of {max(QUERIES):,} queries beside the corpus, each way in a process of its own "
        "(llara holds a copy of half the size, FAISS one of the same size, torch all scores at once):",
        "",
        "| documents | corpus, MiB | llara, MiB | llara unprepared, MiB | FAISS, MiB | torch, MiB |",
        "|---|---|---|---|---|---|",
    ]
    for count in chosen.documents:
        peaks = [
            apart(max(chosen.threads), "--memory", name, "--documents", str(count), *shared) for name in WAYS
        ]
        cells = [f"{count:,}", *(f"{one:.0f}" for one in (count * DIMENSION * 4 / 2**20, *peaks))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure and write the tables; exits 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--memory", choices=list(WAYS), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("faiss").setLevel(logging.WARNING)
    if chosen.memory:
        sys.stdout.write(json.dumps(memory(chosen.memory, chosen.documents[0], chosen.device)))
        return 0
    if chosen.worker:
        found = [row for count in chosen.documents for row in measure(count, chosen.rounds, chosen.device)]
        sys.stdout.write(json.dumps(found))
        return 0
    chosen.output.write_text(page(chosen), encoding="utf-8")
    logger.info("wrote %s", chosen.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
