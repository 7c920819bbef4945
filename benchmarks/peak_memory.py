"""Peak memory of one piece of work in this process, on Linux."""

from __future__ import annotations

import ctypes
import gc
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


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
