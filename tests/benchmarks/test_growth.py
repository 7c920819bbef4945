"""Memory of encoding is flat, and what the growth benchmark makes and says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from llara_core.data.collection import Collection

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "growth.py"


@pytest.fixture(scope="module")
def growth() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_of_growth", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_collections_and_vectors_are_as_large_as_asked(
    growth: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "CHUNK", 40)
    passages = Collection.load(growth.write_collection(tmp_path / "c", 100)).passages
    sizes = [len(text.split()) - 1 for text in passages]
    assert len(set(passages)) == 100 and min(sizes) >= growth.SHORTEST and max(sizes) <= growth.LONGEST
    vectors = np.load(growth.write_vectors(tmp_path / "v.npy", 100))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert vectors.shape == (100, growth.DIMENSION)


def test_the_table_has_cost_per_passage_and_the_bend_of_the_line(growth: ModuleType) -> None:
    rows = [
        {"documents": 1000, "seconds": 2.0, "own": 9.0, "megabytes": 10.0},
        {"documents": 10_000, "seconds": 12.1, "own": 9.0, "megabytes": 12.0},
        {"documents": 100_000, "seconds": 101.0, "own": 9.0, "megabytes": 14.0},
    ]
    lines = growth.table(rows)
    assert lines[2] == "| 1,000 | 2.00 | 2000.0 | 9 | 10 |"
    assert lines[4] == "| 100,000 | 101.00 | 1010.0 | 9 | 14 |"
    assert "through the other two: +10%." in lines[-1]  # on the line: 1 s, and 1 ms a passage, 11 s


@pytest.mark.slow
def test_memory_is_flat_up_to_two_hundred_thousand_passages(growth: ModuleType, tmp_path: Path) -> None:
    sizes = [50_000, 200_000]
    growth.prepare(tmp_path, sizes)
    small, large = (growth.measure("encode", tmp_path, size)["megabytes"] for size in sizes)
    # Texts and vectors are mapped files of about 240 and 64 bytes a passage, hashes and rows under 100.
    assert large - small < 150_000 * 600 / 2**20
    assert large < 400  # 2 GB for a million leave this for a fifth of it
