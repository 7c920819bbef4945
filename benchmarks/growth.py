"""How time and memory grow with the corpus: encoding it, and searching it exactly.

    .venv/bin/python benchmarks/growth.py [--sizes 10000 100000 1000000] [--rounds 3]

Encoding: a Llama of one layer and hidden size 16 with a mapped collection of synthetic passages (8 to 40
words), streamed to a memory-mapped matrix as `llara encode` does it. Search: 1,000 queries over mapped random
vectors. Every measurement is a process of its own with one thread: its CPU time, and its highest memory above
the level before the work, once the model is loaded and has run. Writes docs/results/growth.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from llara_core.config import FromScratchSettings, ModelSettings
from llara_core.data.collection import CORPUS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.model.prepare import prepare_base
from llara_core.retrieval.exact import search
from llara_core.retrieval.vectors import stored_vectors

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "growth.md"
MODEL = FromScratchSettings(
    vocabulary_size=2000, hidden_size=16, intermediate_size=32, layers=1, heads=1, max_positions=128
)
WORDS, SHORTEST, LONGEST = 3000, 8, 40
DIMENSION, QUERIES, DEPTH = 128, 1000, 100
CHUNK = 50_000
logger = logging.getLogger("growth")


def write_collection(folder: Path, documents: int) -> Path:
    """A collection of synthetic passages, every one another; words are as frequent as Zipf has them."""
    random = np.random.default_rng(0)
    letters = np.array([*"abcdefghijklmnop"])
    words = np.array(["".join(random.choice(letters, size)) for size in random.integers(2, 9, WORDS)])
    tables = []
    for start in range(0, documents, CHUNK):
        count = min(CHUNK, documents - start)
        lengths = random.integers(SHORTEST, LONGEST + 1, count)
        drawn = words[np.minimum(random.zipf(1.3, int(lengths.sum())), WORDS) - 1]
        texts = [" ".join(part) for part in np.split(drawn, np.cumsum(lengths)[:-1])]
        rows = {
            "_id": [f"d{row}" for row in range(start, start + count)],
            "title": [""] * count,
            "text": [f"{text} n{row}" for row, text in enumerate(texts, start)],
        }
        empty = {name: [None] * count for name in ("group", "position", "line")}
        tables.append(pa.table({**rows, **empty}, schema=CORPUS_SCHEMA))
    whole = Collection("growth", pa.concat_tables(tables), QUERIES_SCHEMA.empty_table(), {})
    folder.mkdir(parents=True)
    return whole.save(folder)


def write_vectors(path: Path, documents: int) -> Path:
    """Random vectors float32 [N, D] of length one."""
    random = np.random.default_rng(0)
    vectors = np.lib.format.open_memmap(path, "w+", np.float32, (documents, DIMENSION))
    for start in range(0, documents, CHUNK):
        part = random.standard_normal((min(CHUNK, documents - start), DIMENSION), dtype=np.float32)
        vectors[start : start + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    vectors.flush()
    return path


def encoding(folder: Path, documents: int) -> Callable[[], object]:
    """Opens model and collection; returns the work: the corpus' vectors on disk."""
    from llara_core.model.retriever import Retriever

    collection = Collection.load(folder / f"collection-{documents}")
    retriever = Retriever.from_pretrained(folder / "base", "cpu")
    retriever.encode_passages(collection.passages[:64])
    cache = Path(tempfile.mkdtemp(dir=folder))
    return lambda: stored_vectors(retriever, collection.passages, cache)


def searching(folder: Path, documents: int) -> Callable[[], object]:
    """Opens the vectors; returns the work: the best 100 of 1,000 queries."""
    random = np.random.default_rng(1)
    queries = random.standard_normal((QUERIES, DIMENSION), dtype=np.float32)
    corpus = np.load(folder / f"vectors-{documents}.npy", mmap_mode="r")
    search(queries[:2], np.asarray(corpus[:1000]), DEPTH)
    return lambda: search(queries, corpus, DEPTH)


JOBS = {"encode": encoding, "search": searching}


def measure_here(job: str, folder: Path, documents: int) -> dict[str, float]:
    """CPU seconds and megabytes above the level before the work, in this process."""
    work = JOBS[job](folder, documents)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak of imports
    before = status("VmRSS")
    started = time.process_time()
    work()
    return {"seconds": time.process_time() - started, "megabytes": (status("VmHWM") - before) / 1024}


def status(key: str) -> float:
    """A number of kilobytes that the kernel tells about this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return float(next(line for line in lines if line.startswith(key + ":")).split()[1])


def measure(job: str, folder: Path, documents: int) -> dict[str, float]:
    """``measure_here`` in a process of its own."""
    command = [sys.executable, __file__, "--one", job, "--folder", str(folder), "--sizes", str(documents)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{job} of {documents} could not be measured:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def prepare(folder: Path, sizes: list[int]) -> None:
    """Model, collections and vectors of every size."""
    for documents in sizes:
        write_collection(folder / f"collection-{documents}", documents)
        write_vectors(folder / f"vectors-{documents}.npy", documents)
    smallest = Collection.load(folder / f"collection-{min(sizes)}")
    settings = ModelSettings(
        from_scratch=MODEL, template="slots", query_length=32, passage_length=2 * LONGEST
    )
    prepare_base(settings, smallest, folder / "base", seed=0)


def curve(job: str, folder: Path, sizes: list[int], rounds: int) -> list[dict[str, float]]:
    """Median time and highest memory of every size; the largest is measured once when it takes minutes."""
    rows = []
    for documents in sizes:
        found = [measure(job, folder, documents)]
        while len(found) < rounds and found[0]["seconds"] < 120:
            found.append(measure(job, folder, documents))
        seconds = statistics.median(one["seconds"] for one in found)
        megabytes = max(one["megabytes"] for one in found)
        rows.append({"documents": documents, "seconds": seconds, "megabytes": megabytes})
        logger.info("%s %d: %.1f s, %.0f MB", job, documents, seconds, megabytes)
    return rows


def table(rows: list[dict[str, float]]) -> list[str]:
    """Markdown lines: what each size takes, and how far its time per passage is from the size before."""
    lines = ["| passages | seconds | µs a passage | against the size before | MB above the start |"]
    lines.append("|---|---|---|---|---|")
    before = None
    for row in rows:
        each = row["seconds"] / row["documents"] * 1e6
        change = "" if before is None else f"{each / before - 1:+.0%}"
        lines.append(
            f"| {row['documents']:,.0f} | {row['seconds']:.1f} | {each:.1f} | {change} "
            f"| {row['megabytes']:.0f} |"
        )
        before = each
    return lines


def main() -> int:
    """Measure and write the page; exits 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=list(JOBS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    import torch

    torch.set_num_threads(1)
    if chosen.one:
        sys.stdout.write(json.dumps(measure_here(chosen.one, chosen.folder, chosen.sizes[0])) + "\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="llara-") as scratch:
        folder = Path(scratch)
        prepare(folder, chosen.sizes)
        curves = {job: curve(job, folder, chosen.sizes, chosen.rounds) for job in JOBS}
    lines = [
        "# Growth",
        "",
        "Written by `make bench`. CPU seconds of one thread and the highest memory "
        "above the level before the work, once the model is loaded and has run; "
        f"every measurement in a process of its own, medians of up to {chosen.rounds}. "
        "Mapped files count as memory while they are mapped, though the system may take their pages back. "
        f"torch {torch.__version__.split('+')[0]}, Python {platform.python_version()}.",
        "",
        "## Encoding",
        "",
        f"Passages of {SHORTEST} to {LONGEST} words from a mapped collection, "
        f"a Llama of {MODEL.layers} layer and hidden size {MODEL.hidden_size}, "
        "streamed to a memory-mapped float32 matrix with the passages' hashes.",
        "",
        *table(curves["encode"]),
        "",
        "## Exact search",
        "",
        f"The best {DEPTH} of {QUERIES:,} queries among mapped vectors of {DIMENSION} dimensions "
        f"({4 * DIMENSION} bytes a passage, mapped).",
        "",
        *table(curves["search"]),
    ]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    logger.info("wrote %s", RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
