"""How time and memory grow with the corpus: encoding it, searching it exactly, and mining from it.

    .venv/bin/python benchmarks/growth.py [--sizes 10000 100000 1000000] [--rounds 3]

Encoding: a Llama of one layer and hidden size 16 with a mapped collection of synthetic passages (8 to 40
words), streamed to a memory-mapped matrix as `llara encode` does it. Search: 1,000 queries over mapped random
vectors. Mining: 500 queries, dense candidates of the same vectors (BM25 has a page of its own). Every
measurement is a process of its own with one thread: its CPU time, and its highest memory above the level
before the work: own pages (RssAnon, sampled) and, apart, with those of mapped files. Writes
docs/results/growth.md.
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
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from llara_core.config import FromScratchSettings, MineSettings, ModelSettings
from llara_core.data.collection import CORPUS_SCHEMA, QRELS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.model.prepare import prepare_base
from llara_core.retrieval.exact import search
from llara_core.retrieval.vectors import stored_vectors

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "growth.md"
MODEL = FromScratchSettings(
    vocabulary_size=2000, hidden_size=16, intermediate_size=32, layers=1, heads=1, max_positions=128
)
WORDS, SHORTEST, LONGEST = 3000, 8, 40
DIMENSION, QUERIES, DEPTH = 128, 1000, 100
MINED = 500  # queries that negatives are mined for
SAMPLED = 0.005  # seconds between two looks at the memory
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
    corpus = np.load(folder / f"vectors-{documents}.npy", mmap_mode="r", allow_pickle=False)
    search(queries[:2], np.asarray(corpus[:1000]), DEPTH)
    return lambda: search(queries, corpus, DEPTH)


class Known:
    """The miner's view of an encoder whose vectors are on disk already."""

    dimension, fingerprint = DIMENSION, "known"

    def __init__(self, corpus: np.ndarray) -> None:
        self._corpus = corpus

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        """Vectors [Q, D] near those of the passages of the same rows."""
        random = np.random.default_rng(2)
        noise = random.standard_normal((len(texts), DIMENSION), dtype=np.float32) / DIMENSION**0.5
        return np.asarray(self._corpus[: len(texts)]) + np.float32(0.9) * noise

    def encode_passages(self, passages: Sequence[str]) -> np.ndarray:
        """Vectors [N, D] of the rows that the passages name at their ends, in any order."""
        return self._corpus[[int(passage.rsplit(" n", 1)[1]) for passage in passages]]


def mining(folder: Path, documents: int) -> Callable[[], object]:
    """Opens the collection, with judgements, and its cached vectors; returns the work: 500 queries mined."""
    from llara_core.retrieval.mining import mine

    whole = Collection.load(folder / f"collection-{documents}")
    lines = pa.array(range(MINED), pa.int32())
    names = pa.array([f"q{row}" for row in range(MINED)])
    texts = pa.array([f"query {row}" for row in range(MINED)])
    targets = pa.array([f"d{row}" for row in range(MINED)])
    judged = pa.table([names, targets, pa.array([1] * MINED, pa.int32()), lines], QRELS_SCHEMA)
    asked = pa.table([names, texts, lines], QUERIES_SCHEMA)
    collection = Collection("growth", whole.corpus, asked, {"train": judged})
    encoder = Known(np.load(folder / f"vectors-{documents}.npy", mmap_mode="r", allow_pickle=False))
    cache = folder / f"mined-{documents}"
    stored_vectors(encoder, collection.passages, cache)
    return lambda: mine(collection, encoder, MineSettings(bm25_depth=0), cache=cache)


class AnonPeak:
    """Highest RssAnon of this process while the block runs: what it allocates, without mapped files."""

    def __enter__(self) -> AnonPeak:
        """Start looking."""
        self.before = self.peak = status("RssAnon")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLED):
            self.peak = max(self.peak, status("RssAnon"))

    def __exit__(self, *_: object) -> None:
        """Look once more."""
        self._ended.set()
        self._thread.join()
        self.peak = max(self.peak, status("RssAnon"))


JOBS = {"encode": encoding, "search": searching, "mine": mining}


def measure_here(job: str, folder: Path, documents: int) -> dict[str, float]:
    """CPU seconds and megabytes above the level before the work, in this process."""
    work = JOBS[job](folder, documents)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak of imports
    before = status("VmRSS")
    started = time.process_time()
    with AnonPeak() as own:
        work()
    return {
        "seconds": time.process_time() - started,
        "own": (own.peak - own.before) / 1024,
        "megabytes": (status("VmHWM") - before) / 1024,
    }


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
        own, megabytes = (max(one[name] for one in found) for name in ("own", "megabytes"))
        rows.append({"documents": documents, "seconds": seconds, "own": own, "megabytes": megabytes})
        logger.info("%s %d: %.1f s, %.0f MB, with mapped files %.0f", job, documents, seconds, own, megabytes)
    return rows


def bend(rows: list[dict[str, float]]) -> str:
    """How far the middle size lies from the straight line through the first and the last."""
    if len(rows) != 3:
        return ""
    first, middle, last = ((row["documents"], row["seconds"]) for row in rows)
    line = first[1] + (last[1] - first[1]) * (middle[0] - first[0]) / (last[0] - first[0])
    return (
        f"Time of {middle[0]:,.0f} passages against the straight line (a fixed cost and a cost a passage) "
        f"through the other two: {middle[1] / line - 1:+.0%}."
    )


def table(rows: list[dict[str, float]]) -> list[str]:
    """Markdown lines: what each size takes, and how straight the line through the times is."""
    lines = ["| passages | seconds | µs a passage | MB of its own | MB with mapped files |"]
    lines.append("|---|---|---|---|---|")
    for row in rows:
        lines.append(
            f"| {row['documents']:,.0f} | {row['seconds']:.2f} "
            f"| {row['seconds'] / row['documents'] * 1e6:.1f} "
            f"| {row['own']:.0f} | {row['megabytes']:.0f} |"
        )
    return [*lines, "", bend(rows)]


def main() -> int:
    """Measure and write the page; exits 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
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
        "Memory of its own is RssAnon, sampled; the other column also counts the pages of mapped files, "
        "which the system may take back. "
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
        "",
        "## Mining",
        "",
        f"Hard negatives of {MINED} queries among the same passages, dense candidates only, "
        "vectors cached; passages are hashed to find the cache.",
        "",
        *table(curves["mine"]),
    ]
    chosen.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    logger.info("wrote %s", chosen.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
