"""Peak memory of one piece of work: of this process on Linux, or of CUDA's allocator."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def start() -> float:
    """Return the memory held now, MiB, and let the high-water mark start anew from it."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what earlier work left free must not serve the next unseen
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> float:
    """Return the greatest memory since ``start``, MiB."""
    return _status("VmHWM")


def above(work: Callable[[], object], device: str = "cpu") -> float:
    """Highest memory of the work above the level before it, MiB."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return float(torch.cuda.max_memory_allocated() - before) / 2**20
    level = start()
    work()
    return peak() - level


def told_by(script: str, name: str, *arguments: str) -> float:
    """What ``script --memory-of NAME`` prints last, in a process of its own.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, script, "--memory-of", name, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"memory of {name} could not be measured:\n{done.stderr}")
    return float(done.stdout.split()[-1])


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
