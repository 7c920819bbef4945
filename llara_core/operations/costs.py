"""Time, memory and cost of a piece of work: measured around it, and added up over a run.

Peak memory is the most that the process held at any moment of the work: the kernel's own high-water mark,
set back when the work begins. Where it cannot be set back (other systems, some sandboxes) it is the mark of
the whole life of the process, and ``peak_memory_of`` says so. Source: issue 6, point 6.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from llara_core.operations_settings import CostSettings

PROCESS = Path("/proc/self")
_RESET_PEAK = "5"  # written to clear_refs: proc(5), since Linux 4.0


@dataclass(frozen=True)
class Usage:
    """What a piece of work took.

    Args:
        seconds: by the clock.
        processor_seconds: of this process and of its children that have ended.
        peak_memory_bytes: resident set; see the module.
        peak_memory_of: ``work``, or ``process`` where the mark could not be set back.
        device: name of the GPU, or ``cpu``.
        gpus: how many this process can see.
        peak_gpu_memory_bytes: most that PyTorch held on the first GPU; 0 without one.
    """

    seconds: float
    processor_seconds: float
    peak_memory_bytes: int
    peak_memory_of: Literal["work", "process"]
    device: str = "cpu"
    gpus: int = 0
    peak_gpu_memory_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for metadata and JSON."""
        return asdict(self)


class Meter:
    """Measures from its creation to ``stop``.

    Args:
        process: the folder of this process in ``/proc``.
    """

    def __init__(self, process: Path = PROCESS) -> None:
        self._process = process
        self._own_peak = _reset_peak(process)
        _reset_gpu_peak()
        self._clock, self._processor = time.monotonic(), _processor_seconds()

    def stop(self) -> Usage:
        """What has been used so far; may be called again."""
        device, gpus, gpu_peak = _gpu()
        return Usage(
            seconds=round(time.monotonic() - self._clock, 3),
            processor_seconds=round(_processor_seconds() - self._processor, 3),
            peak_memory_bytes=_peak(self._process),
            peak_memory_of="work" if self._own_peak else "process",
            device=device,
            gpus=gpus,
            peak_gpu_memory_bytes=gpu_peak,
        )


def cost(seconds: float, gpus: int, settings: CostSettings) -> float | None:
    """What the time costs in ``settings.currency``; None where no price is set.

    Args:
        seconds: by the clock: a machine costs the same idle or busy.
        gpus: that were held.
        settings: prices of an hour.
    """
    if not (settings.per_hour or settings.per_gpu_hour):
        return None
    return seconds / 3600 * (settings.per_hour + gpus * settings.per_gpu_hour)


def total(usages: Iterable[Mapping[str, Any]], settings: CostSettings) -> dict[str, Any]:
    """The steps of a run together: seconds add up, peaks do not.

    Args:
        usages: of the steps, as ``Usage.to_dict`` gives them.
        settings: prices of an hour.

    Returns:
        ``steps``, ``seconds``, ``processor_seconds``, ``peak_memory_bytes`` (of the largest step),
        ``peak_gpu_memory_bytes``, ``devices``, and where there is a price ``cost`` and ``currency``.
    """
    found = list(usages)
    result: dict[str, Any] = {
        "steps": len(found),
        "seconds": round(sum(one["seconds"] for one in found), 3),
        "processor_seconds": round(sum(one["processor_seconds"] for one in found), 3),
        "peak_memory_bytes": max((one["peak_memory_bytes"] for one in found), default=0),
        "peak_gpu_memory_bytes": max((one["peak_gpu_memory_bytes"] for one in found), default=0),
        "devices": ", ".join(sorted({str(one["device"]) for one in found})),
    }
    amounts = [cost(one["seconds"], one["gpus"], settings) for one in found]
    if amounts and None not in amounts:
        result["cost"] = round(sum(one for one in amounts if one is not None), 6)
        result["currency"] = settings.currency
    return result


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _reset_peak(process: Path) -> bool:
    try:
        (process / "clear_refs").write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    # A sandbox may take the write and do nothing: then the mark stays above what is held now.
    return 0 < _status(process, "VmHWM") <= _status(process, "VmRSS") * 1.05


def _peak(process: Path) -> int:
    if mark := _status(process, "VmHWM"):
        return mark
    try:
        import resource
    except ImportError:  # Windows
        return 0
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def _status(process: Path, name: str) -> int:
    """Bytes of a line of ``/proc/self/status``; 0 where there is none."""
    try:
        lines = (process / "status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    found = next((line for line in lines if line.startswith(f"{name}:")), None)
    return int(found.split()[1]) * 1024 if found else 0


def _gpu() -> tuple[str, int, int]:
    """Name of the first GPU, how many there are, and the most memory held; asks only a loaded PyTorch."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return "cpu", 0, 0
    return (
        str(torch.cuda.get_device_name(0)),
        int(torch.cuda.device_count()),
        int(torch.cuda.max_memory_allocated(0)),
    )


def _reset_gpu_peak() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats(0)
