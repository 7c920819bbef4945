"""The benchmark's two ways are the same step, and its table says what it should; no times are asserted."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from torch.utils.flop_counter import FlopCounterMode

from tests.oracles.published_adaptation_step import PublishedPrompts

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
OURS = "llara"
PROMPTS = PublishedPrompts([1], [50, 51, 60, 61], [50, 62, 63], 2, 0, frozenset({0, 1, 2}))


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("adaptation_step", BENCHMARKS / "adaptation_step.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


def make_task(benchmark: ModuleType, case: str):
    shape = benchmark.Shape(hidden=16, layers=1, length=40, batch=2, steps=2, device="cpu")
    random = np.random.default_rng(0)
    texts = [random.integers(3, 32000, length).tolist() for length in (9, 30, 4, 60, 17)]
    pairs = benchmark.make_pairs(shape, case, PROMPTS, texts)
    return benchmark.Task(shape, PROMPTS, benchmark.make_model(shape), pairs)


def test_equal_rows_fill_the_length_and_both_ways_agree(benchmark: ModuleType) -> None:
    task = make_task(benchmark, benchmark.EQUAL)
    assert [len(text) + 8 for text, _ in task.pairs] == [40, 40]
    assert benchmark.times(task, 1).keys() == {OURS, benchmark.PLAIN}  # it stops if they differ


def test_bound_holds_the_products_of_every_layer(benchmark: ModuleType) -> None:
    task = make_task(benchmark, benchmark.EQUAL)
    seconds = benchmark.times(task, 1, bound=True)
    assert seconds.keys() == {OURS, benchmark.PLAIN, benchmark.BOUND}
    assert benchmark.row(task, "case", benchmark.BOUND, seconds, {}).endswith("|  |  |  |")
    products = sorted(benchmark.products_of(task.model, task.work()))
    # By hand: 2 rows of 40 tokens, hidden 16, intermediate 48, one layer. Predicted are 40 - 8 words a row
    # (the prefix is none of them) and 4 slots.
    layer = [(80, 16, 16)] * 4 + [(80, 16, 48)] * 2 + [(80, 48, 16)]
    assert products == sorted([*layer, (72, 16, 32016)])
    assert products[0].flops == 6 * 72 * 16 * 32016
    # With attention, which is no product of a layer, this is what the step needs.
    pairs = 3 * 4 * 16 * 2 * 40**2
    assert sum(product.flops for product in products) + pairs == task.flops()


def test_bound_multiplies_every_row(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["matrix_products"]
    monkeypatch.setattr(module, "MOST", 50)  # rows of 5 outputs: 10 at a time
    counted = FlopCounterMode(display=False)
    product = module.Product(27, 3, 5)
    one_round = module.prepared([product, product])
    with counted:
        assert one_round() >= 0
    assert counted.get_total_flops() == 2 * product.flops


def test_real_rows_keep_their_lengths(benchmark: ModuleType) -> None:
    task = make_task(benchmark, benchmark.REAL)
    assert [len(text) for text, _ in task.pairs] == [9, 30, 4, 32]
    assert [len(after) for _, after in task.pairs] == [30, 4, 32, 17]
    ours, plain = task.ours(), task.plain()
    assert len(ours) == len(plain) == 2  # steps of other rows: only the number is alike
    cells = benchmark.row(task, "case", OURS, {OURS: 2.0, benchmark.PLAIN: 5.0},
                          {OURS: 2**20, benchmark.PLAIN: 4 * 2**20})  # fmt: skip
    assert cells == "| case | llara | 2.00 | 2.50 | 54 | 6.1% | 1 | 0.25 |"
    assert task.flops() > 0


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc"
)
def test_memory_is_above_the_level_before(benchmark: ModuleType) -> None:
    # Each way in a process of its own: in this one, what earlier tests freed would be used again unseen.
    found = benchmark.memory(make_task(benchmark, benchmark.EQUAL))
    # Gradients alone of both embeddings, 32,016 by 16 in float32.
    assert min(found.values()) > 2**21
