"""The benchmarks of duplicates and leaks at a small size: their pages hold what they promise."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
pytestmark = pytest.mark.slow


def page(script, output, *options):
    subprocess.run(
        [sys.executable, BENCHMARKS / script, *options, "--output", output], check=True, capture_output=True
    )
    return output.read_text(encoding="utf-8")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is Linux's to tell")
def test_duplicates(tmp_path):
    pytest.importorskip("datasketch", reason="datasketch comes with the extra data")
    options = ("--sizes", "300", "600", "--peer", "300", "--sample", "300", "--articles", tmp_path / "none")
    text = page("duplicates.py", tmp_path / "d.md", *options)
    assert text.startswith("# Duplicates\n") and "Made-up passages" in text
    assert text.count("| llara |") == 3 and text.count("| datasketch, plain |") == 2
    row = next(line for line in text.split("## Recall")[1].splitlines() if line.startswith("| llara |"))
    found, wrong = (cell.strip() for cell in row.strip("|").split("|")[1:])
    assert float(found.rstrip("%")) > 95 and wrong == "0"


def test_leaks(tmp_path):
    rng = np.random.default_rng(0)
    sentences = [" ".join(f"w{i}" for i in rng.integers(0, 5000, 30)) for _ in range(60)]
    folder = tmp_path / "data" / "cisi"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "a", "text": "red fish"}\n')
    rows = [
        {"_id": f"q{row}", "text": " ".join(text.split()[:12])} for row, text in enumerate(sentences[:20])
    ]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged = "".join(f"{row['_id']}\ta\t1\n" for row in rows)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    articles = tmp_path / "articles.jsonl.gz"
    with gzip.open(articles, "wt", encoding="utf-8") as lines:
        lines.write(json.dumps({"id": "1", "title": "t", "text": "\n".join(sentences[20:])}) + "\n")
    text = page("leaks.py", tmp_path / "l.md", "--data", tmp_path / "data", "--articles", articles)
    assert "Not at hand: scifact, arguana, cranfield." in text
    assert text.count("| cisi | adaptation text |") == text.count("| cisi | training queries |") == 2
    assert "| cisi | 20 | 0 (0.0000%) | 0 (0.00%) |" in text and "## SciFact" not in text
