"""The rates by which a corpus of any size is planned, measured here, and the tables of docs/scale.md.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/scale.py [--passages 50000] [--rounds 3] [--keep-rates]

Writes docs/results/scale.json (`llara scale --rates` reads it) and the marked section of docs/scale.md, which
is what `llara scale` says with these rates. CPU time of one thread, which other programs do not disturb;
medians of rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from mining_task import DIMENSION, Task

from llara_core.cli.scale import read_rates
from llara_core.config import MineSettings
from llara_core.operations.scale import Rates
from llara_core.operations.scale_model import corpus_of
from llara_core.operations.scale_text import duration_text, scale_text, size_text, table
from llara_core.retrieval.exact import search
from llara_core.retrieval.hashes import passage_hashes
from llara_core.retrieval.mining import find
from llara_core.retrieval.mining_shards import save_findings
from llara_core.retrieval.vector_shards import encode_shard, merge_shards, plan_shards
from llara_core.retrieval.vector_store import Key
from llara_core.training.plan_gpus import find_device

ROOT = Path(__file__).resolve().parents[1]
RATES, PAGE = ROOT / "docs" / "results" / "scale.json", ROOT / "docs" / "scale.md"
BEGIN, END = "<!-- begin: benchmarks/scale.py -->", "<!-- end: benchmarks/scale.py -->"
QUERIES, SHARDS, LISTS, CODE = 2000, 4, 64, 64

# The example of docs/scale.md.
PASSAGES, MODEL, TOKENS = 100_000_000, "mistralai/Mistral-7B-v0.1", 160
SMALL = "Qwen/Qwen3-0.6B"
# Devices, and what an hour of one is taken to cost: round figures that show the arithmetic, nobody's offer.
PRICES = {"h100": 3.0, "a100-80gb": 2.0, "l40s": 1.2, "l4": 0.7}
DEVICES, COUNT = tuple(PRICES), 64
MACHINE = (256e9, 2000e9)  # bytes of memory and disk of the machine that plans, merges and searches


def median_of(work: Callable[[], object], rounds: int) -> float:
    """Median seconds of CPU time of some rounds."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def measure(passages: int, rounds: int) -> Rates:
    """All rates, on a made corpus."""
    with tempfile.TemporaryDirectory(prefix="llara-scale-") as name:
        folder = Path(name)
        task = Task(passages, min(QUERIES, passages), folder)
        texts = task.collection.passages
        hashes = passage_hashes(texts)
        plan_seconds = median_of(lambda: plan_shards(passage_hashes(texts), SHARDS), rounds)
        one = task.asked[:1]
        flat = median_of(lambda: search(one, task.vectors, 100), rounds)
        return Rates(
            machine=f"{platform.processor() or platform.machine()}, 1 thread",
            hash_passages=passages / plan_seconds,
            hash_bytes=sum(len(text.encode()) for text in task.passages) / plan_seconds,
            merge_bytes=task.vectors.nbytes / _merge_seconds(task, hashes, folder, rounds),
            flat_bytes=task.vectors.nbytes / flat,
            pq_codes=passages * CODE / _pq_seconds(task, rounds),
            findings_bytes=_findings_bytes(task, folder) / len(task.queries),
        )


def _merge_seconds(task: Task, hashes: np.ndarray, folder: Path, rounds: int) -> float:
    plan = plan_shards(hashes, SHARDS)
    shards = []
    for number, rows in enumerate(plan):
        some = [task.passages[row] for row in rows]
        made = encode_shard(task, some, folder / f"shard-{number}")
        assert made.folder is not None
        shards.append(made.folder)
    key = Key(task.fingerprint, task.dimension, "float32", hashes)
    numbers = iter(range(rounds))
    return median_of(lambda: merge_shards(key, plan, shards, folder / f"whole-{next(numbers)}"), rounds)


def _pq_seconds(task: Task, rounds: int) -> float:
    """One query against the codes of every list, so that the lists' own search hardly counts."""
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexIVFPQ(faiss.IndexFlatIP(DIMENSION), DIMENSION, LISTS, CODE, 8)
    index.train(task.vectors[: 256 * 40])
    index.add(task.vectors)
    index.nprobe = LISTS
    return median_of(lambda: index.search(task.asked[:1], 100), rounds)


def _findings_bytes(task: Task, folder: Path) -> int:
    found = find(task.collection, task, MineSettings(), cache=folder / "mining")
    return save_findings(found, folder / "found.safetensors").stat().st_size


def section(rates: Rates) -> str:
    """The tables of the page: what was measured, and the plan for the example."""
    measured = [
        ["planning", f"{rates.hash_passages:,.0f} passages/s, {size_text(rates.hash_bytes)}/s of text"],
        ["merging", f"{size_text(rates.merge_bytes)}/s of vectors; a disk may be slower"],
        ["exact search of one query", f"{size_text(rates.flat_bytes)}/s of vectors"],
        ["IVF-PQ, one query", f"{size_text(rates.pq_codes)}/s of codes"],
        ["mining", f"{size_text(rates.findings_bytes)} kept of a query"],
    ]  # fmt: skip
    parts = [f"Measured on {rates.machine}:", table(["what", "rate"], measured)]
    devices = [find_device(name) for name in DEVICES]
    priced = ", ".join(f"{name} {price:.2f}" for name, price in PRICES.items())
    parts.append(
        f"Costs are those of an hour's price of {priced}: an assumption to show the arithmetic, in any "
        "currency. Give your own with `--price`."
    )
    for base in (MODEL, SMALL):
        corpus = corpus_of(base, PASSAGES, TOKENS, "float16")
        parts += [f"### {base}", scale_text(corpus, devices, COUNT, PRICES, rates, MACHINE)]
    flat = corpus_of(SMALL, 10_000_000, TOKENS, "float16")
    seconds = flat.passages * flat.dimension * flat.dtype_bytes / rates.flat_bytes
    parts.append(
        f"For comparison, ten million passages of {SMALL}: an exact query reads "
        f"{size_text(flat.passages * flat.dimension * flat.dtype_bytes)} and takes {duration_text(seconds)} "
        "on one thread."
    )
    return "\n\n".join(parts)


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--passages", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--keep-rates", action="store_true", help="write the page from the rates that are there"
    )
    parser.add_argument("--rates", type=Path, default=RATES)
    parser.add_argument("--page", type=Path, default=PAGE)
    chosen = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        sys.exit("set OMP_NUM_THREADS=1: the rates are those of one thread")
    if not chosen.keep_rates:
        rates = measure(chosen.passages, chosen.rounds)
        chosen.rates.write_text(json.dumps(asdict(rates), indent=1) + "\n", encoding="utf-8")
    text = chosen.page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    new = f"{before}{BEGIN}\n\n{section(read_rates(chosen.rates))}\n\n{END}{after}"
    chosen.page.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
