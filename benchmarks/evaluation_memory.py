"""What evaluation keeps in memory, as the corpus grows: does MS MARCO fit a machine of 24 GB?

    .venv/bin/python benchmarks/evaluation_memory.py [--sizes 250000 500000 1000000 2000000]

Writes docs/results/evaluation_memory.md. Every point is a process of its own on synthetic data: encoding
into a mapped float16 matrix, exact search, all of BEIR's metrics at depth 1000, results on disk; and, apart
from it, reading a corpus from JSON lines with every row checked. What is counted is anonymous memory, which
the kernel cannot take back; pages of mapped files are shown too. Linux only.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from evaluation_memory_page import DEPTH, PASSAGE, QUERIES, page
from numpy.typing import NDArray

from llara_core.data.collection import CORPUS_SCHEMA, QRELS_SCHEMA, QUERIES_SCHEMA
from llara_core.data.formats import open_collection
from llara_core.data.quality import check
from llara_core.evaluation.beir import DenseSystem, beir_metrics, evaluate_system

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "evaluation_memory.md"
STATUS = Path("/proc/self/status")
CHUNK = 50_000  # documents written at a time
logger = logging.getLogger("evaluation_memory")


class Synthetic:
    """An encoder whose vectors follow from the text alone: a row of a fixed random table."""

    fingerprint = "synthetic"

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        rng = np.random.default_rng(0)
        table = rng.standard_normal((1 << 12, dimension), np.float32)
        self._table = table / np.linalg.norm(table, axis=1, keepdims=True)

    def encode_passages(self, passages: Sequence[str]) -> NDArray[np.float32]:
        """Vectors float32 [N, D]."""
        return self._table[[zlib.crc32(text.encode()) & 0xFFF for text in passages]]

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors float32 [Q, D]."""
        return self.encode_passages(texts)


def write_collection(folder: Path, documents: int, queries: int = QUERIES) -> None:
    """A saved collection with short texts, written a chunk at a time."""
    (folder / "qrels").mkdir(parents=True)
    with (
        pa.OSFile(str(folder / "corpus.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, CORPUS_SCHEMA) as writer,
    ):
        for start in range(0, documents, CHUNK):
            rows = range(start, min(start + CHUNK, documents))
            columns = {"_id": [f"d{row}" for row in rows], "title": [""] * len(rows)}
            columns["text"] = [f"passage number {row}" for row in rows]
            writer.write_table(_table(columns, CORPUS_SCHEMA, len(rows)))
    ids = [f"q{row}" for row in range(queries)]
    step = documents // queries
    tables = {
        "queries": _table(
            {"_id": ids, "text": [f"passage number {row * step}" for row in range(queries)]},
            QUERIES_SCHEMA,
            queries,
        ),
        "qrels/test": _table(
            {
                "query_id": ids,
                "corpus_id": [f"d{row * step}" for row in range(queries)],
                "score": [1] * queries,
            },
            QRELS_SCHEMA,
            queries,
        ),
    }
    for name, table in tables.items():
        with (
            pa.OSFile(str(folder / f"{name}.arrow"), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            writer.write_table(table)
    facts = {"name": "synthetic", "files": {}, "unresolved_share": 0.0, "report": {}}
    (folder / "collection.json").write_text(json.dumps(facts), encoding="utf-8")


def _table(columns: dict[str, Any], schema: pa.Schema, rows: int) -> pa.Table:
    return pa.table(
        [
            pa.array(columns[one.name], one.type) if one.name in columns else pa.nulls(rows, one.type)
            for one in schema
        ],
        schema=schema,
    )


def write_jsonl(file: Path, documents: int) -> None:
    """A corpus of passages as long as MS MARCO's."""
    words = ["the", "of", "retrieval", "passage", "about", "water", "history", "number", "company", "energy"]
    filler = " ".join(words[place % len(words)] for place in range(80))[: PASSAGE - 16]
    with file.open("w", encoding="utf-8") as stream:
        for row in range(documents):
            stream.write(json.dumps({"_id": str(row), "title": "", "text": f"{row:>15} {filler}"}) + "\n")


def judge(folder: Path, documents: int, dimension: int) -> None:
    """What a child measures: a collection judged from end to end."""
    collection = open_collection(folder / "collection")
    system = DenseSystem(
        "synthetic", Synthetic(dimension), collection, folder / f"vectors-{dimension}", dtype="float16"
    )
    result = evaluate_system(collection, "test", system, DEPTH, metrics=beir_metrics(DEPTH))
    result.save(folder / f"results-{dimension}", run=True)
    if len(result.found[0]) != min(DEPTH, documents):
        raise SystemExit(f"found {len(result.found[0])} documents, expected {DEPTH}")


def load(folder: Path, documents: int, _dimension: int) -> None:
    """What a child measures: a corpus read from JSON lines and checked."""
    collection = open_collection(folder, corpus_only=True)
    check(collection)
    if collection.corpus.num_rows != documents:
        raise SystemExit(f"read {collection.corpus.num_rows} rows of {documents}")


TASKS: dict[str, Callable[[Path, int, int], None]] = {"judge": judge, "load": load}


def child(task: str, folder: Path, documents: int, dimension: int) -> None:
    """Run one task and print its peak of anonymous memory above the start, its peak in all, and seconds."""
    start = anonymous()
    peak, done = [start], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], anonymous())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    began = time.perf_counter()
    TASKS[task](folder, documents, dimension)
    seconds = time.perf_counter() - began
    done.set()
    watcher.join()
    told = {"grown": peak[0] - start, "start": start, "resident": _field("VmHWM"), "seconds": seconds}
    sys.stdout.write(json.dumps(told) + "\n")


def anonymous() -> int:
    """Bytes of this process that no file backs."""
    return _field("RssAnon")


def _field(name: str) -> int:
    line = next(one for one in STATUS.read_text(encoding="ascii").splitlines() if one.startswith(name))
    return int(line.split()[1]) * 1024


def measured(task: str, folder: Path, documents: int, dimension: int = 0) -> dict[str, float]:
    """One point, in a process of its own."""
    command = [sys.executable, __file__, "--child", task, str(folder), str(documents), str(dimension)]
    environment = {**os.environ, "PYTHONPATH": str(RESULTS.parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{task} at {documents}: {done.stderr.strip()[-600:]}")
    point: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    logger.info(
        "%s %d x %d: grew by %.0f MB in %.1f s",
        task,
        documents,
        dimension,
        point["grown"] / 1e6,
        point["seconds"],
    )
    return {**point, "documents": documents, "dimension": dimension}


def run(options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """All points: growing corpora, dimensions, numbers of queries and files."""
    points: dict[str, list[dict[str, float]]] = {"judge": [], "dimension": [], "queries": [], "load": []}
    first, least = options.dimensions[0], options.rows[0]
    cases = [("judge", count, QUERIES, first) for count in options.sizes]
    cases += [("dimension", least, QUERIES, dimension) for dimension in options.dimensions]
    cases += [("queries", least, queries, first) for queries in options.queries]
    for kind, documents, queries, dimension in cases:
        with tempfile.TemporaryDirectory() as name:
            write_collection(Path(name) / "collection", documents, queries)
            point = measured("judge", Path(name), documents, dimension)
            points[kind].append({**point, "queries": queries})
    for documents in options.rows:
        with tempfile.TemporaryDirectory() as name:
            write_jsonl(Path(name) / "corpus.jsonl", documents)
            points["load"].append(measured("load", Path(name), documents))
    return points


def main() -> int:
    """Measure and write the page; exits 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[250_000, 500_000, 1_000_000, 2_000_000])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--queries", type=int, nargs="+", default=[500, 2_000, 4_000])
    parser.add_argument("--rows", type=int, nargs="+", default=[75_000, 150_000, 300_000])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not STATUS.is_file():
        raise SystemExit("this benchmark reads /proc/self/status, which only Linux has")
    if options.child:
        task, folder, documents, dimension = options.child
        logging.getLogger().setLevel(logging.WARNING)
        child(task, Path(folder), int(documents), int(dimension))
        return 0
    text = page(run(options))
    options.output.write_text(text, encoding="utf-8")
    logger.info("written to %s", options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
