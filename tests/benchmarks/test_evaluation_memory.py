"""Evaluation's memory does not follow the corpus; and the benchmark's page says what was measured."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("evaluation_memory", BENCHMARKS / "evaluation_memory.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = path
    return module


def points(by, values, grown, **others):
    same = {"documents": 1e5, "dimension": 64, "start": 50e6, "resident": 9e8, "seconds": 2.0, **others}
    return [{**same, by: value, "grown": growth} for value, growth in zip(values, grown, strict=True)]


def test_the_projection_by_hand(benchmark):
    """10 bytes a passage while judging, 400 while reading, 1,000 a dimension, and what does not grow."""
    text = benchmark.page(
        {
            "judge": points("documents", [1e5, 2e5], [101e6, 102e6]),
            "dimension": points("dimension", [64, 128], [100e6, 100.064e6]),
            "queries": points("queries", [500, 1000], [100e6, 150e6]),
            "load": points("documents", [1e5, 2e5], [90e6, 130e6]),
        }
    )
    assert (
        "| results of 6,980 queries, 100 bytes each | 0.65 |" in text
    )  # of 1,000 results, 6,480 queries more
    assert "10.0 bytes a passage (its vector alone has 128 bytes" in text
    assert "| corpus as Arrow, 400 bytes a passage | 3.59 |" in text  # 0.05 + 400 x 8.84 million
    assert "| evaluation, 10.0 bytes a passage | 0.19 |" in text  # 0.1 + 10 x 8.84 million
    assert "72.4 GB of float16 vectors. It fits a machine of 24 GB" in text
    assert "Reading takes 10 microseconds a passage" in text
    heavy = points("documents", [1e5, 2e5], [1e8, 5e8])  # 4,000 bytes a passage
    judged = points("documents", [1e5, 2e5], [1e8, 1e8])
    wide, asked = points("dimension", [64, 128], [1e8, 1e8]), points("queries", [500, 900], [1e8, 1e8])
    measured = {"judge": judged, "dimension": wide, "queries": asked, "load": heavy}
    assert "It does NOT fit" in benchmark.page(measured)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads /proc, which only Linux has")
def test_memory_does_not_follow_the_corpus(benchmark, tmp_path):
    """From 100,000 to 500,000 passages: a fraction of what their vectors take on disk, 512 bytes each."""
    grown = []
    for documents in (100_000, 500_000):  # blocks are full from 100,000 on
        folder = tmp_path / str(documents)
        benchmark.write_collection(folder / "collection", documents)
        grown.append(benchmark.measured("judge", folder, documents, 256)["grown"])
    assert (grown[1] - grown[0]) / 400_000 < 100
