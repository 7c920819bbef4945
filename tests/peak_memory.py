"""What a process has held at most, for tests that measure one of their own."""

from __future__ import annotations

from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_kib() -> int:
    """KiB that this process has held at most.

    Not ``ru_maxrss``: a child begins with that of its parent, so that nothing it does shows where the tests
    themselves have held more.
    """
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
