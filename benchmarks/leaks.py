"""The leak gate: how many planted leaks it finds, how often it alarms falsely, what it finds in SciFact.

    .venv/bin/python benchmarks/leaks.py [--data ../shared/data] [--articles FILE.jsonl.gz]

Writes docs/results/leaks.md. Real queries of the collections below --data are planted in five ways, in
paragraphs of Wikipedia (adaptation text) and among training queries. What is not at hand is left out and
named. --paragraphs takes only so many of them, --output writes elsewhere.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
from planted_leaks import KEPT, KINDS, REQUIRED, planted

from llara_core.data.collection import CORPUS_SCHEMA, QRELS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.data.formats import read_beir
from llara_core.data.leaks import find_leaks
from llara_core.data_settings import LeakSettings

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "docs" / "results" / "leaks.md"
COLLECTIONS = ("scifact", "arguana", "cranfield", "cisi")
SHORTEST = 60  # characters of a paragraph that words are taken from: shorter ones are headings
logger = logging.getLogger("leaks")


def paragraphs(articles: Path, most: int | None) -> list[str]:
    """Paragraphs of Wikipedia, in order; none where the file is not at hand."""
    return list(_paragraphs(articles, most)) if articles.is_file() else []


def _paragraphs(articles: Path, most: int | None) -> Iterator[str]:
    count = 0
    with gzip.open(articles, "rt", encoding="utf-8") as lines:
        for line in lines:
            for text in json.loads(line)["text"].split("\n"):
                if text.strip():
                    if count == most:
                        return
                    count += 1
                    yield text


def evaluation_only(queries: list[str], training: list[str]) -> Collection:
    """A collection of test queries and training queries, each with a document of its own."""
    texts = [*queries, *training]
    ids = [f"q{row}" for row in range(len(texts))]
    documents = [f"d{row}" for row in range(len(texts))]
    corpus = [{"_id": name, "title": "", "text": f"document {name}"} for name in documents]
    asked = [{"_id": name, "text": text} for name, text in zip(ids, texts, strict=True)]
    judged = [
        {"query_id": query, "corpus_id": document, "score": 1}
        for query, document in zip(ids, documents, strict=True)
    ]
    qrels = {"test": judged[: len(queries)]} | ({"train": judged[len(queries) :]} if training else {})
    return Collection(
        name="planted",
        corpus=pa.Table.from_pylist(corpus, CORPUS_SCHEMA),
        queries=pa.Table.from_pylist(asked, QUERIES_SCHEMA),
        qrels={split: pa.Table.from_pylist(rows, QRELS_SCHEMA) for split, rows in qrels.items()},
    )


def found_in_text(queries: list[str], copies: list[str]) -> float:
    """Share of the copies, as rows of adaptation text, in which the gate finds something."""
    found = find_leaks(evaluation_only(queries, []), adaptation=copies)
    return len(found.drop_adaptation) / len(copies)


def found_in_training(queries: list[str], copies: list[str]) -> float:
    """Share of the copies, as training queries, that the gate would drop."""
    found = find_leaks(evaluation_only(queries, copies))
    return len(found.drop_queries) / len(copies)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def rates(name: str, queries: list[str], texts: list[str]) -> list[str]:
    """Rows of the table of planted leaks: both places, all queries and those long enough to be sought."""
    least = LeakSettings().minimum_words
    lengthy = [text for text in queries if len(text.split()) >= least]
    lines = []
    for place, count in (("adaptation text", found_in_text), ("training queries", found_in_training)):
        for label, chosen in (("all", queries), (f"of {least} words or more", lengthy)):
            shares = [count(chosen, planted(kind, chosen, texts)) for kind in KINDS]
            cells = [f"{share:.1%}" for share in shares]
            lines.append(_row([name, place, f"{label} ({len(chosen):,})", *cells]))
            logger.info(lines[-1])
    return lines


def false_alarms(name: str, queries: list[str], texts: list[str]) -> str:
    """A row: paragraphs and queries between which the gate sees a leak, though nothing was planted."""
    collection = evaluation_only(queries, [])
    start = time.process_time()
    found = find_leaks(collection, adaptation=texts)
    seconds = time.process_time() - start
    rows = len(found.drop_adaptation)
    alarmed = found.report["leaking_queries"]
    words = sum(len(text.split()) for text in texts)
    line = _row(
        [
            name, f"{len(queries):,}", f"{rows} ({rows / len(texts):.4%})",
            f"{alarmed} ({alarmed / len(queries):.2%})", f"{words / seconds / 1e6:.1f}",
        ]
    )  # fmt: skip
    logger.info(line)
    return line


def official(data: Path) -> list[str]:
    """What the gate finds in SciFact's official split."""
    scifact = read_beir(data / "scifact", "scifact")
    report = find_leaks(scifact, adaptation=scifact.passages).report
    documents, seen = report["relevant_documents"], report["relevant_documents_trained_on"]
    queries, leaking, dropped = report["evaluation_queries"], report["leaking_queries"], report["to_drop"]
    lines = [
        "## SciFact's official split", "",
        f"{queries} test and {report['training_queries']} training queries; the adaptation text is the "
        "corpus. A query may leak in several ways.", "",
        _row(["kind", "test queries", "share"]), "|---|---:|---:|",
    ]  # fmt: skip
    for kind, one in report["kinds"].items():
        lines.append(_row([f"`{kind}`: {one['what']}", str(one["queries"]), f"{one['share']:.1%}"]))
    free = ", ".join(f"{count} queries `{name}`" for name, count in report["subsets"].items())
    lines += [
        _row(["any of them", str(leaking), f"{leaking / queries:.1%}"]), "",
        f"{seen} of {documents} relevant documents ({seen / documents:.0%}) are training positives. "
        f"Leak-free: {free}. `drop` would take out {dropped['queries']} training queries and "
        f"{dropped['judgements']} judgements.",
    ]  # fmt: skip
    return lines


def page(data: Path, articles: Path, most: int | None) -> list[str]:
    """All lines of the page."""
    texts = paragraphs(articles, most)
    names = [name for name in COLLECTIONS if (data / name / "corpus.jsonl").is_file()]
    queries = {name: read_beir(data / name, name).split_queries("test")[1] for name in names}
    sources = [text for text in texts if len(text) >= SHORTEST]
    lines = [
        "# Leaks", "", "Written by `make bench`.", "",
        f"With the default settings; numpy {version('numpy')}, one thread.", "",
    ]  # fmt: skip
    missing = [name for name in COLLECTIONS if name not in names]
    missing += [] if texts else ["the Wikipedia sample"]
    lines += [f"Not at hand: {', '.join(missing)}.", ""] if missing else []
    if sources and queries:
        asked = ", ".join(f"{kind} {share:.0%}" for kind, share in REQUIRED.items())
        lines += [
            "## Planted leaks", "",
            f"Share of the copies that are found. Asked for: {asked}. A truncated copy keeps {KEPT[0]:.0%} "
            f"to {KEPT[1]:.0%} of the words, the changed word may be any. Each copy is a row of adaptation "
            "text, or a training query.", "",
            _row(["collection", "planted in", "queries", *KINDS]), "|---|---|---|" + "---:|" * len(KINDS),
        ]  # fmt: skip
        for name, asked_queries in queries.items():
            lines += rates(name, asked_queries, sources)
        lines += [
            "", "## False alarms", "",
            f"{len(texts):,} paragraphs of Wikipedia in which nothing was planted.", "",
            _row(["collection", "queries", "paragraphs alarmed", "queries alarmed", "Mwords/s"]),
            "|---|---:|---:|---:|---:|",
        ]  # fmt: skip
        lines += [*(false_alarms(name, one, texts) for name, one in queries.items()), ""]
    return [*lines, *(official(data) if "scifact" in names else [])]


def main() -> int:
    """Measure and write the page; exits 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--articles", type=Path, help="jsonl.gz, one article a line; default: below --data")
    parser.add_argument("--paragraphs", type=int, help="of the articles, the first; default: all")
    parser.add_argument("--output", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    articles = chosen.articles or chosen.data / "enwiki_sample" / "articles.jsonl.gz"
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("llara_core.data.leaks").setLevel(
        logging.ERROR
    )  # it warns, as it should, of every plant
    lines = page(chosen.data, articles, chosen.paragraphs)
    chosen.output.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    logger.info("wrote %s", chosen.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
