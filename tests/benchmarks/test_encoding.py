"""The encoding benchmark: equal vectors on all ways, lengths as promised, and what its page says."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from llara_core.config import FromScratchSettings
from tests.training.contrastive_toys import toy_collection

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "encoding.py"
TINY = FromScratchSettings(
    vocabulary_size=400, hidden_size=32, intermediate_size=48, layers=2, heads=2, max_positions=512
)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))  # where its other half lies
    spec = importlib.util.spec_from_file_location("benchmark_of_encoding", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    task = importlib.import_module("encoding_task")
    texts = [" ".join(f"word{n * k % 97}" for k in range(50)) for n in range(1, 90)]
    monkeypatch.setattr(task, "collection", lambda: toy_collection(texts, ["word1"], [("q0", "d0", 1)]))
    monkeypatch.setitem(task.MODELS, "cpu", TINY)
    return module


def test_all_ways_give_the_same_vectors(benchmark: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    task = benchmark.build(tmp_path, "cpu", 70)
    assert len(task.texts) == 70 and task.lengths.min() >= 10 and task.lengths.max() <= benchmark.LONGEST
    assert task.lengths.max() > 4 * task.lengths.min()
    ways = benchmark.ways_of(task)
    assert list(ways) == list(benchmark.WAYS)
    assert benchmark.check(ways, "cpu") < 1e-5
    ways[benchmark.PLAIN] = lambda: np.zeros((70, 32), np.float32)
    with pytest.raises(SystemExit, match="not give the same vectors"):
        benchmark.check(ways, "cpu")


def test_the_page_compares_with_llara(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "version", lambda name: "6.2.0")  # it may not be installed
    task = benchmark.Task(["a"] * 4, np.array([20, 30, 50, 100]), None, "cpu", "toy")
    chosen = argparse.Namespace(device="cpu", rounds=3, documents=5000)
    seconds = dict(zip(benchmark.WAYS, (2.0, 3.0, 6.0), strict=True))
    found = {name: {"seconds": value, "memory": 10.0} for name, value in seconds.items()}
    page = "\n".join(benchmark.table(task, chosen, {**found, "1,024": {"seconds": 2.5}}, 1e-7))
    assert "quartiles 20, 27, 40, 62, 100; words of toy" in page
    assert "| `llara` | 2.00 | 100 | 1.00 | 10 |" in page
    assert "| `plain loop, unsorted` | 6.00 | 33 | 3.00 | 10 |" in page
    assert "| 1,024 | 2.50 |" in page
