"""The gauges of the plan's accuracy, and its page; the figures themselves are the benchmark's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import plan_accuracy
from benchmarks.plan_cases import CASES, DeviceMemory, ResidentMemory, predicted

LINUX = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's /proc")
SMALLEST = "finetune, LoRA, Mistral"


@LINUX
def test_resident_memory_rises_by_what_is_held() -> None:
    gauge = ResidentMemory()
    held = torch.ones(1 << 24)  # 64 MiB, written to
    assert gauge.peak() > 0.9 * 4 * held.numel()


@pytest.mark.gpu
def test_a_plan_is_near_a_run_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    gauge = DeviceMemory()
    held = torch.ones(1 << 24, device="cuda")
    assert gauge.peak() == 4 * held.numel()
    plan, real = predicted(SMALLEST, "cuda"), plan_accuracy.measure(SMALLEST, "cuda")
    assert real["flops"] == pytest.approx(plan["flops"], rel=0.05)
    assert real["bytes"] == pytest.approx(plan["bytes"], rel=0.3)


@pytest.mark.parametrize(("measured", "rc"), [(1.1, 0), (1.2, 1)])
def test_the_page_says_how_far_off_a_plan_is(
    measured: float, rc: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def run(name: str, device: str) -> dict[str, float]:
        asked.append((name, device))
        return {"bytes": measured * 2**21, "flops": 2e9}

    monkeypatch.setattr(plan_accuracy, "CASES", dict.fromkeys(list(CASES)[:1]))
    plan = {"bytes": 2**21, "flops": 2e9, "parameters": 3e6}
    monkeypatch.setattr(plan_accuracy, "predicted", lambda name, device: plan)
    monkeypatch.setattr(plan_accuracy, "measure", run)
    page = tmp_path / "page.md"
    monkeypatch.setattr("sys.argv", ["plan_accuracy.py", "--device", "cuda", "--output", str(page)])
    assert plan_accuracy.main() == rc
    assert asked == [(next(iter(CASES)), "cuda")]
    row = page.read_text().splitlines()[-1]
    assert row.startswith(
        f"| {next(iter(CASES))} | 3.0M | 2 | 2 | {1 / measured - 1:+.1%} | 2.00 | 2.00 | +0.0%"
    )
    assert "on a GPU" in page.read_text()
