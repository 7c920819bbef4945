"""BM25: its scores on public collections beside published ones, its cost beside bm25s used plainly.

    .venv/bin/python benchmarks/bm25.py [--data ../shared/data] [--passages 100000] [--queries 1000]

Writes docs/results/bm25.md. Collections (BEIR folders below --data) that are not at hand are left out and
named. Time and memory are of Wikipedia's paragraphs (--articles), or of made-up passages. --output writes
elsewhere.
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
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import peak_memory
import Stemmer

from llara_core.config import Bm25Settings
from llara_core.data.formats import read_beir
from llara_core.evaluation.beir import Bm25System, evaluate_system
from llara_core.retrieval.bm25 import Bm25

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "docs" / "results" / "bm25.md"
COLLECTIONS = ("scifact", "arguana", "cranfield", "cisi")
SETTINGS = {
    "k1 0.9, b 0.4 (Anserini's)": {"k1": 0.9, "b": 0.4},
    "k1 1.2, b 0.75 (Lucene's)": {"k1": 1.2, "b": 0.75},
    "k1 1.5, b 0.75 (bm25s's; the default)": {},
    "the default without stemming": {"stem": False},
    "the default with stop words": {"stop_words": False},
}
# nDCG@10 and recall@100. Anserini's analyser is another (Porter's stemmer, one-letter words are kept) and
# its document lengths are rounded to one byte, so some thousandths are to be expected.
PUBLISHED = (
    ("Anserini, title and text joined, k1 0.9, b 0.4",
     {"scifact": (0.6789, 0.9253), "arguana": (0.3970, 0.9324)},
     "castorini/pyserini, `pyserini/resources/beir.yaml`"),
    ("Anserini, title and text as fields, k1 0.9, b 0.4",
     {"scifact": (0.6647, 0.9076), "arguana": (0.4142, 0.9431)},
     "castorini/pyserini, `pyserini/resources/beir.yaml`"),
    ("BEIR, Elasticsearch, title and text as fields", {"scifact": (0.665, 0.908), "arguana": (0.315, None)},
     "Thakur et al., arXiv 2104.08663"),
)  # fmt: skip
WORDS, WORDS_PER_PASSAGE = 60_000, 60  # of made-up passages
SHORTEST = 60  # characters of a paragraph: shorter ones are headings
MISSING = "-"
logger = logging.getLogger("bm25")


def scores(data: Path) -> list[str]:
    """The table of nDCG@10 and recall@100, and the published figures below it."""
    names = [name for name in COLLECTIONS if (data / name / "corpus.jsonl").is_file()]
    lines = ["## Scores", "", "nDCG@10 / recall@100, self-matches left out as BEIR does.", ""]
    lines += [_row(["settings", *names]), "|---" * (len(names) + 1) + "|"]
    collections = {name: read_beir(data / name, name) for name in names}
    for title, values in SETTINGS.items():
        cells = []
        for collection in collections.values():
            result = evaluate_system(collection, "test", Bm25System(collection, Bm25Settings(**values)))
            cells.append(f"{result.means['ndcg_at_10']:.4f} / {result.means['recall_at_100']:.4f}")
        lines.append(_row([title, *cells]))
        logger.info(lines[-1])
    for title, values, _ in PUBLISHED:
        lines.append(_row([f"*{title}*", *(_published(values.get(name)) for name in names)]))
    missing = [name for name in COLLECTIONS if name not in names]
    lines += ["", f"Not at hand: {', '.join(missing)}.", ""] if missing else [""]
    lines += [f"- *{title}*: {source}" for title, _, source in PUBLISHED]
    lines += [
        "", "Anserini's analyser is another (Porter's stemmer, one-letter words kept) and it rounds document "
        "lengths, so some thousandths are expected between the same k1 and b.", "",
    ]  # fmt: skip
    return lines


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _published(pair: tuple[float, float | None] | None) -> str:
    if pair is None:
        return MISSING
    return f"*{pair[0]} / {MISSING if pair[1] is None else pair[1]}*"


def passages(count: int, articles: Path) -> list[str]:
    """Paragraphs of the articles, or made-up passages where there are no articles."""
    if not articles.is_file():
        return made_up(count)
    texts: list[str] = []
    with gzip.open(articles, "rt", encoding="utf-8") as lines:
        for line in lines:
            texts += [text for text in json.loads(line)["text"].split("\n") if len(text) >= SHORTEST]
            if len(texts) >= count:
                break
    return texts[:count]


def made_up(count: int) -> list[str]:
    """Passages of 20 to 100 words, drawn as words of a language are: few often, most rarely."""
    rng = np.random.default_rng(0)
    chances = 1 / np.arange(1, WORDS + 1)
    drawn = rng.choice(WORDS, size=count * WORDS_PER_PASSAGE * 5 // 3, p=chances / chances.sum())
    lengths = rng.integers(WORDS_PER_PASSAGE // 3, WORDS_PER_PASSAGE * 5 // 3, count)
    ends = np.cumsum(lengths)
    words = [f"w{number}x" for number in range(WORDS)]
    return [
        " ".join(words[number] for number in drawn[end - length : end])
        for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)
    ]


def queries(texts: list[str], count: int) -> list[str]:
    """Eight words of some passages."""
    rng = np.random.default_rng(1)
    return [" ".join(texts[row].split()[5:13]) for row in rng.integers(0, len(texts), count)]


def ours(texts: list[str], asked: list[str], cache: Path) -> dict[str, float]:
    """Seconds of indexing (and saving), of opening the saved index, and of the search."""
    indexing, made = _timed(lambda: Bm25.cached(texts, cache=cache))
    peak = peak_memory.peak()
    opening, again = _timed(lambda: Bm25.cached(texts, cache=cache))
    searching, found = _timed(lambda: made.search(asked, 100))
    if not all(np.array_equal(*pair) for pair in zip(found, again.search(asked, 100), strict=True)):
        raise SystemExit("the index from the cache answers otherwise")
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    return {"index": indexing, "open": opening, "search": searching, "peak": peak, "disk": size / 2**20}


def plain_bm25s(texts: list[str], asked: list[str], cache: Path) -> dict[str, float]:
    """bm25s as its documentation shows it."""
    stemmer = Stemmer.Stemmer("english")

    def index() -> bm25s.BM25:
        made = bm25s.BM25()
        tokens = bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False)
        made.index(tokens, show_progress=False)
        return made

    indexing, made = _timed(index)
    peak = peak_memory.peak()
    tokens = bm25s.tokenize(asked, stopwords="en", stemmer=stemmer, show_progress=False)
    searching, _ = _timed(lambda: made.retrieve(tokens, k=100, show_progress=False))
    return {"index": indexing, "search": searching, "peak": peak}


WAYS: dict[str, Callable[[list[str], list[str], Path], dict[str, float]]] = {
    "llara": ours, "bm25s, plain": plain_bm25s,
}  # fmt: skip


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()  # all ways are one thread: a busy machine does not count
    result = work()
    return time.process_time() - start, result


def child(name: str, count: int, asked: int, articles: Path) -> None:
    """Write one way's times and memory beyond the passages to stdout, as JSON."""
    texts = passages(count, articles)
    questions = queries(texts, asked)
    held = peak_memory.start()
    with tempfile.TemporaryDirectory() as folder:
        found = WAYS[name](texts, questions, Path(folder))
    json.dump(found | {"peak": found["peak"] - held, "passages": len(texts)}, sys.stdout)


def costs(count: int, asked: int, articles: Path) -> list[str]:
    """The table of times and memory, for a quarter, half and all of the passages."""
    kind = "Paragraphs of Wikipedia" if articles.is_file() else "Made-up passages"
    lines = [
        "## Cost", "",
        f"{kind}, {asked:,} queries of eight words of theirs, the best 100; bm25s {version('bm25s')} used "
        "plainly finds the same scores. Processor time, one thread; each way in a process of its own; memory "
        "is the peak of indexing beyond the passages. Opening hashes all passages, to be sure that the saved "
        "index is theirs.", "",
        _row(["passages", "way", "index, s", "memory, MiB", "search, ms a query", "open, s", "on disk, MiB"]),
        "|---" * 7 + "|",
    ]  # fmt: skip
    for size in (count // 4, count // 2, count):
        for name in WAYS:
            command = [sys.executable, __file__, "--child", name, "--passages", str(size)]
            command += ["--queries", str(asked), "--articles", str(articles)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            cells = [f"{found['index']:.1f}", f"{found['peak']:.0f}", f"{found['search'] / asked * 1000:.2f}"]
            saved = [f"{found['open']:.2f}", f"{found['disk']:.0f}"] if "open" in found else [MISSING] * 2
            lines.append(_row([f"{found['passages']:,}", name, *cells, *saved]))
            logger.info(lines[-1])
    return lines


def main() -> int:
    """Measure and write the page; exits 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--articles", type=Path, help="jsonl.gz, one article a line; default: below --data")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    articles = chosen.articles or chosen.data / "enwiki_sample" / "articles.jsonl.gz"
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("bm25s").setLevel(logging.WARNING)
    if chosen.child:
        child(chosen.child, chosen.passages, chosen.queries, articles)
        return 0
    lines = ["# BM25", "", "Written by `make bench`.", "", *scores(chosen.data)]
    lines += costs(chosen.passages, chosen.queries, articles)
    chosen.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    logger.info("wrote %s", chosen.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
