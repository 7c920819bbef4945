"""What ingestion costs as the data grow: time per row and memory at 50,000, 500,000 and 5,000,000 rows.

    .venv/bin/python benchmarks/data_scale.py [--sizes 50000 500000 5000000] [--peers 50000 500000]

Writes docs/results/data_scale.md. Generated documents of 400 bytes as JSON lines (2 GB at 5,000,000 rows),
one query and judgement to fifty of them, one row in a thousand broken on purpose; each stage of each size
is a process of its own, so that none profits from another. ``ingest`` reads, judges, looks for equal ids
and texts, writes Arrow and hashes; ``hash`` reads it back and hashes it alone; ``validate`` runs the
expectations, ``check`` the row rules of the command line; ``split`` makes the rows of adaptation. Peers
only read: ``datasets`` and pandas turn the same file into a table. Linux only.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "data_scale.md"
STATUS = Path("/proc/self/status")
BOUND = 1.5e9  # bytes of anonymous memory that no stage may pass (issue 5, point 2)
BROKEN, SHARED = 1000, 50  # one row in so many is broken; documents to a query
logger = logging.getLogger("data_scale")


def write_source(folder: Path, documents: int) -> None:
    """A BEIR folder of generated text, the same for equal numbers."""
    (folder / "qrels").mkdir(parents=True)
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, size)) for size in rng.integers(2, 11, 20_000)]
    frequent = (20_000 * rng.random((4096, 12)) ** 3).astype(int)  # a few words are most of a text
    sentences = [" ".join(words[word] for word in row).capitalize() + "." for row in frequent]
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as stream:
        for start in range(0, documents, 10_000):
            chosen = rng.integers(0, len(sentences), (10_000, 4))
            stream.writelines(_documents(start, min(documents, start + 10_000), chosen, sentences))
    queries = max(1, documents // SHARED)
    with (folder / "queries.jsonl").open("w", encoding="utf-8") as stream:
        for row in range(queries):
            stream.write(json.dumps({"_id": f"q{row}", "text": f"what is said of number {row}"}) + "\n")
    with (folder / "qrels" / "test.tsv").open("w", encoding="utf-8") as stream:
        stream.write("query-id\tcorpus-id\tscore\n")
        stream.writelines(f"q{row}\td{row * SHARED + 1}\t1\n" for row in range(queries))


def _documents(start: int, end: int, chosen: Any, sentences: list[str]) -> Iterator[str]:
    for row in range(start, end):
        text = " ".join(sentences[one] for one in chosen[row - start])
        if row % BROKEN == BROKEN // 2:
            text = f"{text}\u202e"
        yield json.dumps({"_id": f"d{row}", "title": f"Number {row}", "text": text[:330]}) + "\n"


def ingested(folder: Path, rows: int) -> None:
    """Stage: source → collection and quarantine."""
    from llara_core.data.formats import open_place_as_source
    from llara_core.data.ingest import ingest

    done = ingest(open_place_as_source(str(folder / "source"), name="generated"), folder / "collection")
    if done.counts["roles"]["corpus"]["read"] != rows:
        raise SystemExit(f"read {done.counts['roles']['corpus']['read']} documents, expected {rows}")


def hashed(folder: Path, _rows: int) -> None:
    """Stage: the content hash of the collection on disk, as it was when it was written."""
    from llara_core.data.collection import Collection

    written = json.loads((folder / "collection" / "collection.json").read_text("utf-8"))["content_hash"]
    if Collection.load(folder / "collection").content_hash != written:
        raise SystemExit("the collection on disk has another hash than it was written with")


def validated(folder: Path, _rows: int) -> None:
    """Stage: Great Expectations on every row."""
    sys.path.insert(0, str(RESULTS.parents[2]))
    from llara_core.data.collection import Collection
    from steps.expectations import Lengths, judge

    lengths = Lengths(passage_length=160, query_length=64)  # pipelines give them too
    judge(Collection.load(folder / "collection"), lengths=lengths).raise_critical()


def checked(folder: Path, _rows: int) -> None:
    """Stage: the row rules that the command line asks."""
    from llara_core.data.collection import Collection
    from llara_core.data.quality import check

    check(Collection.load(folder / "collection"))


def split(folder: Path, _rows: int) -> None:
    """Stage: documents → adaptation rows, on disk as in the pipeline."""
    from llara_core.data.collection import Collection
    from llara_core.data.passages import adaptation_rows

    rows = adaptation_rows(Collection.load(folder / "collection"), file=folder / "rows.arrow")
    if not rows.num_rows:
        raise SystemExit("the corpus gave no adaptation row")


def by_datasets(folder: Path, rows: int) -> None:
    """Peer: ``datasets`` reads the corpus into its Arrow cache."""
    from datasets import load_dataset

    table = load_dataset(
        "json",
        data_files=str(folder / "source" / "corpus.jsonl"),
        split="train",
        cache_dir=str(folder / "cache"),
    )
    _expect(len(table), rows)


def by_pandas(folder: Path, rows: int) -> None:
    """Peer: pandas reads the corpus, 50,000 rows at a time, and keeps nothing."""
    import pandas as pd

    with pd.read_json(folder / "source" / "corpus.jsonl", lines=True, chunksize=50_000) as chunks:
        _expect(sum(len(chunk) for chunk in chunks), rows)


def _expect(found: int, rows: int) -> None:
    if found != rows:
        raise SystemExit(f"read {found} rows, expected {rows}")


STAGES: dict[str, Callable[[Path, int], None]] = {
    "ingest": ingested,
    "hash": hashed,
    "validate": validated,
    "check": checked,
    "split": split,
}
PEERS: dict[str, Callable[[Path, int], None]] = {"datasets": by_datasets, "pandas": by_pandas}


def child(stage: str, folder: Path, rows: int) -> None:
    """Run one stage and print seconds, processor seconds and peaks of memory in bytes."""
    peak, done = [0, 0], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            peak[:] = [max(peak[0], _field("RssAnon")), max(peak[1], _field("RssFile"))]

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    began, used = time.perf_counter(), time.process_time()
    (STAGES | PEERS)[stage](folder, rows)
    told = {"seconds": time.perf_counter() - began, "processor": time.process_time() - used}
    done.set()
    watcher.join()
    told |= {"resident": _field("VmHWM"), "anonymous": peak[0], "mapped": peak[1]}
    sys.stdout.write(json.dumps(told) + "\n")


def _field(name: str) -> int:
    line = next(one for one in STATUS.read_text("ascii").splitlines() if one.startswith(name))
    return int(line.split()[1]) * 1024


def measured(stage: str, folder: Path, rows: int) -> dict[str, Any]:
    """One stage at one size, in a process of its own.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, __file__, "--child", stage, str(folder), str(rows)]
    paths = [str(RESULTS.parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{stage} at {rows} rows: {done.stderr.strip()[-1500:]}")
    point = json.loads(done.stdout.splitlines()[-1]) | {"stage": stage, "rows": rows}
    logger.info(
        "%s, %d rows: %.1f s, %.0f MB anonymous", stage, rows, point["seconds"], point["anonymous"] / 1e6
    )
    return point


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All points; the files of one size are removed before the next is made."""
    points = []
    for rows in options.sizes:
        folder = Path(tempfile.mkdtemp(prefix="data_scale-", dir=options.work))
        try:
            write_source(folder / "source", rows)
            size = (folder / "source" / "corpus.jsonl").stat().st_size
            for stage in options.stages:
                points.append(measured(stage, folder, rows) | {"bytes": size})
            for peer in PEERS if rows in options.peers else ():
                points.append(measured(peer, folder, rows) | {"bytes": size})
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return points


def page(points: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = [
        "# Data at scale",
        "",
        "`benchmarks/data_scale.py`: generated documents as JSON lines, one in a thousand broken on purpose. "
        "Anonymous memory is what the kernel cannot take back, mapped memory pages of files that it can; "
        "each line is a process of its own, imports included.",
        "",
        "| stage | rows | file | seconds | processor seconds | rows a second | µs a row "
        "| peak anonymous | peak mapped | peak resident |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for point in points:
        rows, seconds = point["rows"], point["seconds"]
        lines.append(
            f"| {point['stage']} | {rows:,} | {point['bytes'] / 1e9:.2f} GB | {seconds:.1f} "
            f"| {point['processor']:.1f} | {rows / seconds:,.0f} | {1e6 * seconds / rows:.1f} "
            f"| {point['anonymous'] / 1e6:,.0f} MB | {point['mapped'] / 1e6:,.0f} MB "
            f"| {point['resident'] / 1e6:,.0f} MB |"
        )
    return "\n".join([*lines, "", *_remarks(points)]) + "\n"


def _remarks(points: list[dict[str, Any]]) -> Iterator[str]:
    """Whether memory stays below the bound and time grows with the rows, and what peers take."""
    ours = [point for point in points if point["stage"] in STAGES]
    highest = max(ours, key=lambda point: point["anonymous"])
    yield (
        f"Highest anonymous memory: {highest['anonymous'] / 1e6:,.0f} MB (`{highest['stage']}` at "
        f"{highest['rows']:,} rows; the bound is {BOUND / 1e6:,.0f} MB)."
    )
    for stage in dict.fromkeys(point["stage"] for point in ours):
        same = sorted((point for point in ours if point["stage"] == stage), key=lambda point: point["rows"])
        if len(same) > 1:
            small, large = same[0], same[-1]
            growth = np.log(large["processor"] / small["processor"]) / np.log(large["rows"] / small["rows"])
            yield (
                f"- `{stage}`: processor time grows as rows^{growth:.2f} from {small['rows']:,} to "
                f"{large['rows']:,} rows."
            )
    for point in points:
        if point["stage"] in PEERS:
            base = next(
                (one for one in ours if one["stage"] == "ingest" and one["rows"] == point["rows"]), None
            )
            if base:
                yield (
                    f"- At {point['rows']:,} rows `{point['stage']}` takes "
                    f"{point['seconds'] / base['seconds']:.2f} of the time of `ingest` and "
                    f"{point['anonymous'] / base['anonymous']:.2f} of its memory, to read the corpus and "
                    "judge nothing."
                )


def main() -> int:
    """Measure and write the page; exits 1 where a stage passes the bound."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[50_000, 500_000, 5_000_000])
    parser.add_argument("--peers", type=int, nargs="*", default=[50_000, 500_000], help="sizes for the peers")
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=list(STAGES))
    parser.add_argument("--work", type=Path, help="folder for the generated files; default: the system's")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not STATUS.is_file():
        raise SystemExit("this benchmark reads /proc/self/status, which only Linux has")
    if options.child:
        logging.getLogger().setLevel(logging.ERROR)
        child(options.child[0], Path(options.child[1]), int(options.child[2]))
        return 0
    points = run(options)
    options.output.write_text(page(points), encoding="utf-8")
    logger.info("written to %s", options.output)
    return int(any(point["anonymous"] > BOUND for point in points if point["stage"] in STAGES))


if __name__ == "__main__":
    sys.exit(main())
