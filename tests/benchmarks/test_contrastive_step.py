"""The benchmark of the contrastive step: what it draws, and what its page says."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from llara_core.data.collection import Collection
from tests.training.contrastive_toys import toy_collection

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "contrastive_step.py"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))  # where its other half lies
    spec = importlib.util.spec_from_file_location("benchmark_of_the_contrastive_step", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def many() -> Collection:
    """250 documents, some alike, and 30 queries; two queries share a positive."""
    texts = [f"{10 + row % 240} {row % 240}" for row in range(250)]
    judged = [(f"q{row}", f"d{max(row, 1)}", 1) for row in range(30)] + [("q3", "dX", 1)]
    return toy_collection(texts, [str(row) for row in range(30)], judged)


def test_every_text_of_the_step_is_another(benchmark: ModuleType) -> None:
    small, negatives = importlib.import_module("contrastive_task").draw(many())
    qrels = small.qrels["train"]
    assert qrels.num_rows == 24 and negatives.num_rows == 24 * 7
    text = dict(zip(small.corpus_ids, small.passages, strict=True))
    drawn = [text[name] for name in [*qrels["corpus_id"].to_pylist(), *negatives["corpus_id"].to_pylist()]]
    assert len(set(drawn)) == 24 * 8
    assert negatives["query_id"].to_pylist()[:8] == ["q0"] * 7 + ["q2"]  # q1 has the positive of q0


def test_page_compares_each_way_with_its_peer(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "version", lambda name: "6.2.0")  # it may not be installed
    column = {"attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])}
    task = benchmark.Task(None, Path(), {}, [column, column], "toy")
    chosen = argparse.Namespace(device="cpu", dtype="float32", rounds=3)
    base = {"loss": 2.0, "loss_deviation": 0.0, "gradient_deviation": 1e-7}
    seconds = dict(zip(benchmark.WAYS, (1.0, 1.5, 2.0, 5.0), strict=True))
    found = {name: {**base, "seconds": value, "memory": 100.0} for name, value in seconds.items()}
    page = "\n".join(benchmark.table(task, chosen, found))
    assert "toy, 4 tokens on average, 4 at most" in page
    assert "| `llara` | 1000 | 1.50x | 100 |" in page
    assert "| `llara, gradient_cache` | 2000 | 2.50x | 100 |" in page
    assert "| `CachedMultipleNegativesRankingLoss` | 5000 | 1.00x | 100 |" in page
