"""The benchmark of mining: all ways mine the same negatives, and the page says what was found."""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("OMP_NUM_THREADS", "TQDM_DISABLE"):  # the script sets them for its own process
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    return importlib.import_module("mining")


def test_the_page_compares_with_the_plain_way(benchmark: ModuleType) -> None:
    found = {name: {"seconds": 2.0, "memory": 100.0, "same": 1.0} for name in benchmark.WAYS}
    found[benchmark.OURS_PLAIN] |= {"seconds": 1.0, "memory": 25.0}
    chosen = argparse.Namespace(passages=500, queries=50, rounds=3)
    page = "\n".join(benchmark.page(chosen, found))
    assert "| sentence-transformers, FAISS | 2.00 | 2.00x | 100 | 25% | 100.0% |" in page
    assert "`benchmarks/mining.py --passages 500 --queries 50`" in page
    assert benchmark.agreement({("a", "b"), ("c", "d")}, {("a", "b")}) == 0.5


@pytest.mark.slow
def test_all_ways_mine_the_same_negatives(benchmark: ModuleType, tmp_path: Path) -> None:
    mined = {name: way() for name, way in benchmark.Task(600, 60, tmp_path).ways(benchmark.WAYS).items()}
    for pairs in mined.values():
        assert len(pairs) == 60 * 8
        assert benchmark.agreement(pairs, mined[benchmark.OURS_PLAIN]) == 1
