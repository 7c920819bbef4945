"""Duplicates: time and memory of a corpus, beside datasketch used plainly, and what is missed.

    .venv/bin/python benchmarks/duplicates.py [--sizes 10000 100000 1000000] [--peer 10000] [--sample 10000]

Writes docs/results/duplicates.md. Passages are made up, of 20 to 100 words; one in twenty is a copy in
other case and punctuation, one in twenty a copy with one or two words changed. They lie in an Arrow file,
as an ingested corpus does. Recall is told on Wikipedia's paragraphs (--articles) where they are at hand.
--output writes elsewhere.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llara_core.data.duplicates import find_duplicates
from llara_core.data.lazy import LazyTexts
from llara_core.data_settings import DuplicateSettings

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "docs" / "results" / "duplicates.md"
ARTICLES = REPOSITORY.parent / "shared" / "data" / "enwiki_sample" / "articles.jsonl.gz"
WORDS, BATCH, SHORTEST = 60_000, 10_000, 60
SETTINGS = DuplicateSettings()
OURS, PEER = "llara", "datasketch, plain"
logger = logging.getLogger("duplicates")


def made_up(count: int, rng: np.random.Generator) -> list[str]:
    """Passages of words as frequent as a language's, a tenth of them copies of others."""
    chances = 1 / np.arange(1, WORDS + 1)
    lengths = rng.integers(20, 101, count)
    drawn = rng.choice(WORDS, size=int(lengths.sum()), p=chances / chances.sum())
    ends = np.cumsum(lengths).tolist()
    texts: list[str] = []
    for length, end, kind in zip(lengths.tolist(), ends, rng.random(count).tolist(), strict=True):
        if kind < 0.1 and texts:
            words = texts[rng.integers(len(texts))].split()
            if kind < 0.05:
                texts.append(", ".join(words).upper() + ".")
                continue
            for place in rng.integers(0, len(words), rng.integers(1, 3)).tolist():
                words[place] = "changed"
            texts.append(" ".join(words))
        else:
            texts.append(" ".join(f"w{number}x" for number in drawn[end - length : end].tolist()))
    return texts


def write(path: Path, count: int) -> None:
    """Made-up passages as an Arrow file, a batch in memory at a time."""
    rng = np.random.default_rng(0)
    schema = pa.schema([("text", pa.string())])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for start in range(0, count, BATCH):
            writer.write_batch(pa.record_batch([made_up(min(BATCH, count - start), rng)], schema=schema))


def mapped(path: Path) -> Sequence[str]:
    """The passages of such a file, which stay on disk."""
    return LazyTexts(pa.ipc.open_file(pa.memory_map(str(path))).read_all(), ("text",), str)


def ngrams(text: str) -> set[str]:
    """The word trigrams that a text of plain words has; fewer words are one run."""
    words = "".join(letter if letter.isalnum() else " " for letter in text.lower()).split()
    size = SETTINGS.ngram
    return (
        {" ".join(words[place : place + size]) for place in range(max(1, len(words) - size + 1))}
        if words
        else set()
    )


def ours(texts: Sequence[str]) -> NDArray[np.int64]:
    """Clusters as this project finds them."""
    return find_duplicates(texts, SETTINGS).clusters


def datasketch_plain(texts: Sequence[str]) -> NDArray[np.int64]:
    """Clusters as datasketch's documentation shows it: an index is asked and filled text by text."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=SETTINGS.threshold, num_perm=128)
    parents = list(range(len(texts)))
    for row, text in enumerate(texts):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([gram.encode() for gram in ngrams(text)])
        for other in index.query(sketch):
            _join(parents, row, other)
        index.insert(row, sketch)
    return np.array([_root(parents, row) for row in range(len(texts))])


def all_pairs(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Every pair that reaches the threshold, by comparing all that share a trigram: the truth."""
    postings: dict[str, list[int]] = defaultdict(list)
    sets = [ngrams(text) for text in texts]
    pairs = []
    for row, grams in enumerate(sets):
        shared: Counter[int] = Counter()
        for gram in grams:
            shared.update(postings[gram])
            postings[gram].append(row)
        pairs += [
            (other, row)
            for other, count in shared.items()
            if count >= SETTINGS.threshold * (len(grams) + len(sets[other]) - count)
        ]
    return pairs


def _root(parents: list[int], row: int) -> int:
    while parents[row] != row:
        parents[row] = parents[parents[row]]
        row = parents[row]
    return row


def _join(parents: list[int], first: int, second: int) -> None:
    low, high = sorted((_root(parents, first), _root(parents, second)))
    parents[high] = low


WAYS: dict[str, Callable[[Sequence[str]], NDArray[np.int64]]] = {OURS: ours, PEER: datasketch_plain}


def child(name: str, path: Path) -> None:
    """Write one way's time and memory to stdout, as JSON."""
    texts = mapped(path)
    start, clock = time.process_time(), time.perf_counter()
    clusters = WAYS[name](texts)
    seconds, wall = time.process_time() - start, time.perf_counter() - clock
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    repeats = int((clusters != np.arange(len(clusters))).sum())
    json.dump({"seconds": seconds, "wall": wall, "peak": peak, "repeats": repeats}, sys.stdout)


def costs(sizes: Sequence[int], peer: int) -> list[str]:
    """The table of time and memory."""
    lines = [
        "## Cost", "",
        "Processor time; memory is the peak of the whole process, mapped pages of the corpus included. Each "
        f"way in a process of its own. datasketch {version('datasketch')} as its documentation shows it, "
        f"without an exact comparison; ours takes signatures from rensa {version('rensa')} and compares.", "",
        _row(["passages", "way", "seconds", "passages a second", "peak memory, MiB", "repeats found"]),
        "|---:|---|---:|---:|---:|---:|",
    ]  # fmt: skip
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "passages.arrow"
            write(path, size)
            for name in [OURS, PEER] if size <= peer else [OURS]:
                command = [sys.executable, __file__, "--child", name, "--passages", str(path)]
                found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
                rate = f"{size / found['seconds']:,.0f}"
                cells = [f"{found['seconds']:.1f}", rate, f"{found['peak']:,.0f}", f"{found['repeats']:,}"]
                lines.append(_row([f"{size:,}", name, *cells]))
                logger.info(lines[-1])
    return lines


def recall(texts: list[str], kind: str) -> list[str]:
    """The table of what is missed and what is joined wrongly, against all pairs."""
    pairs = all_pairs(texts)
    parents = list(range(len(texts)))
    for first, second in pairs:
        _join(parents, first, second)
    truth = np.array([_root(parents, row) for row in range(len(texts))])
    lines = [
        "", "## Recall", "",
        f"{kind} and copies of some with up to eight words changed, {len(texts):,} "
        f"in all: {len(pairs):,} pairs reach a Jaccard similarity of {SETTINGS.threshold} by word trigrams, "
        "told by comparing all that share one.", "",
        _row(["way", "pairs found", "passages joined with one that they should not be"]), "|---|---:|---:|",
    ]  # fmt: skip
    for name, way in WAYS.items():
        clusters = way(texts)
        met = sum(bool(clusters[first] == clusters[second]) for first, second in pairs)
        wrong = sum(bool(truth[row] != truth[cluster]) for row, cluster in enumerate(clusters.tolist()))
        lines.append(_row([name, f"{met / max(1, len(pairs)):.2%}", f"{wrong:,}"]))
        logger.info(lines[-1])
    return lines


def wikipedia(articles: Path, count: int) -> list[str]:
    """The first paragraphs of Wikipedia that are more than a heading."""
    texts: list[str] = []
    with gzip.open(articles, "rt", encoding="utf-8") as lines:
        for line in lines:
            texts += [text for text in json.loads(line)["text"].split("\n") if len(text) >= SHORTEST]
            if len(texts) >= count:
                break
    return texts[:count]


def with_copies(texts: list[str], rng: np.random.Generator) -> list[str]:
    """Texts, a third of them copied with one to eight words changed: near the threshold on both sides."""
    copies = []
    for text in texts[: len(texts) // 3]:
        words = text.split()
        for place in rng.integers(0, len(words), rng.integers(1, 9)).tolist():
            words[place] = "changed"
        copies.append(" ".join(words))
    return [*texts, *copies]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Measure and write the page; exits 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--peer", type=int, default=10_000, help="the largest size at which datasketch runs")
    parser.add_argument("--sample", type=int, default=10_000, help="passages compared all with all")
    parser.add_argument("--articles", type=Path, default=ARTICLES)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--passages", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if chosen.child:
        child(chosen.child, chosen.passages)
        return 0
    lines = ["# Duplicates", "", "Written by `make bench`.", "", *costs(chosen.sizes, chosen.peer)]
    if chosen.articles.is_file():
        texts, kind = wikipedia(chosen.articles, chosen.sample), "Paragraphs of Wikipedia"
    else:
        texts, kind = made_up(chosen.sample, np.random.default_rng(1)), "Made-up passages"
    lines += recall(with_copies(texts, np.random.default_rng(2)), kind)
    chosen.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    logger.info("wrote %s", chosen.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
