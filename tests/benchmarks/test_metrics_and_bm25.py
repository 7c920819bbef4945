"""The two benchmarks at a small size: they run, and their pages hold what they promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is Linux's to tell"),
]


def page(script, output, *options):
    subprocess.run(
        [sys.executable, BENCHMARKS / script, *options, "--output", output], check=True, capture_output=True
    )
    return output.read_text(encoding="utf-8")


def test_metrics(tmp_path):
    pytest.importorskip("pytrec_eval", reason="pytrec_eval-terrier comes with the extra dev")
    text = page("metrics.py", tmp_path / "m.md", "--queries", "30", "--depth", "100", "--rounds", "1")
    assert text.startswith("# Metrics\n") and "30 queries, 100 results" in text
    for way in ("pytrec_eval", "llara, dictionaries", "llara, arrays"):
        assert text.count(f"| {way} |") == 3  # two kinds of scores, and memory


def test_bm25(tmp_path):
    folder = tmp_path / "data" / "cisi"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text(
        '{"_id": "a", "text": "red fish"}\n{"_id": "b", "text": "blue dog"}\n'
    )
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "dogs"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tb\t1\n")
    options = ("--data", str(tmp_path / "data"), "--passages", "800", "--queries", "5")
    text = page("bm25.py", tmp_path / "b.md", *options)
    assert "| k1 1.5, b 0.75 (bm25s's; the default) | 1.0000 / 1.0000 |" in text
    assert "| the default without stemming | 0.0000 / 0.0000 |" in text
    assert "Not at hand: scifact, arguana, cranfield." in text and "Made-up passages" in text
    assert text.count("| llara |") == text.count("| bm25s, plain |") == 3
