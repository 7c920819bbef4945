from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from llara_core.errors import ConfigError
from llara_core.operations import costs
from llara_core.operations.costs import Meter
from llara_core.operations_settings import OPERATIONS, CostSettings, OperationsSettings

MB = 1 << 20
SHIPPED = Path(__file__).resolve().parents[2] / "configs" / "operations.yaml"


def test_time_and_processor_time_are_measured_apart() -> None:
    meter = Meter()
    before = time.process_time()
    while time.process_time() - before < 0.2:  # busy
        pass
    busy = meter.stop()
    idle = Meter()
    time.sleep(0.3)
    slept = idle.stop()
    assert busy.processor_seconds >= 0.15  # os.times counts in hundredths
    assert busy.seconds > 0
    assert slept.seconds >= 0.3
    assert slept.processor_seconds < slept.seconds
    assert busy.device == "cpu" or busy.gpus > 0


def test_peak_memory_is_that_of_the_work_not_of_what_came_before() -> None:
    large = np.ones(200 * MB, np.uint8)
    first = Meter().stop()
    if first.peak_memory_of != "work":
        pytest.skip("this kernel does not set the high-water mark of memory back")
    held = first.peak_memory_bytes
    del large
    meter = Meter()
    small = meter.stop()
    block = np.ones(100 * MB, np.uint8)
    grown = meter.stop()
    assert block[-1] == 1
    assert small.peak_memory_bytes < held - 100 * MB
    assert grown.peak_memory_bytes >= small.peak_memory_bytes + 90 * MB


def test_without_proc_the_peak_of_the_process_is_told_as_such(tmp_path: Path) -> None:
    usage = Meter(tmp_path / "none").stop()
    assert usage.peak_memory_of == "process"
    assert usage.peak_memory_bytes > MB


def test_a_sandbox_that_ignores_the_reset_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("VmHWM:\t 900000 kB\nVmRSS:\t 100000 kB\n")
    usage = Meter(tmp_path).stop()
    assert usage.peak_memory_of == "process"
    assert usage.peak_memory_bytes == 900000 * 1024


def test_cost_is_hours_times_prices() -> None:
    prices = CostSettings(currency="USD", per_hour=0.5, per_gpu_hour=2.0)
    assert costs.cost(7200, 0, prices) == pytest.approx(1.0)
    assert costs.cost(1800, 2, prices) == pytest.approx(2.25)
    assert costs.cost(3600, 1, CostSettings()) is None


def test_steps_add_up_and_peaks_do_not() -> None:
    step = {"seconds": 1800.0, "processor_seconds": 900.0, "peak_memory_bytes": 5, "gpus": 0, "device": "cpu",
            "peak_gpu_memory_bytes": 0}  # fmt: skip
    other = {**step, "seconds": 5400.0, "peak_memory_bytes": 7, "gpus": 1, "device": "H100"}
    whole = costs.total([step, other], CostSettings(per_hour=1, per_gpu_hour=2))
    assert (whole["steps"], whole["seconds"], whole["processor_seconds"]) == (2, 7200, 1800)
    assert whole["peak_memory_bytes"] == 7
    assert whole["devices"] == "H100, cpu"
    assert whole["cost"] == pytest.approx(0.5 + 1.5 * 3)
    assert whole["currency"] == "EUR"
    assert "cost" not in costs.total([step], CostSettings())
    assert costs.total([], CostSettings(per_hour=1))["steps"] == 0


def test_settings_come_from_the_variable_the_file_or_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(OPERATIONS, raising=False)
    assert OperationsSettings.load(tmp_path / "none.yaml") == OperationsSettings()
    assert OperationsSettings.load(SHIPPED) == OperationsSettings()  # the file shows the defaults
    own = tmp_path / "own.yaml"
    own.write_text("costs: {per_hour: 2}\n")
    monkeypatch.setenv(OPERATIONS, str(own))
    assert OperationsSettings.load(SHIPPED).costs.per_hour == 2
    own.write_text("costs: {per_our: 2}\n")
    with pytest.raises(ConfigError, match="per_hour"):
        OperationsSettings.load(SHIPPED)
    monkeypatch.setenv(OPERATIONS, str(tmp_path / "gone.yaml"))
    with pytest.raises(ConfigError, match="gone"):
        OperationsSettings.load(SHIPPED)
