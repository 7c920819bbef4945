"""The devices that a plan can be made for: memory and peak speed, from a table or from this machine.

Source: issue 3, point 10; the figures are the makers' (``gpus.yaml``).
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass, replace

import torch

from llara_core.errors import ConfigError
from llara_core.settings import nearest
from llara_core.training.plan_model import data_table

GIB = 2**30

# Share of the peak that training reaches, counting the operations that are executed. An assumption: large
# published runs report 0.38 to 0.46 (Llama 3, arXiv 2407.21783, table 4; PaLM, arXiv 2204.02311, 4.1).
UTILISATION = 0.40
# A CPU's peak is measured here on large matrix products, and those are nearly all that a step computes.
CPU_UTILISATION = 0.60
# Not for tensors: the CUDA context and its libraries' workspaces, and what the caching allocator cannot
# hand out again because it lies in pieces. Assumptions too; on a CPU there is neither.
CONTEXT = 0.8 * GIB
FRAGMENTED = 0.05

_SIDE, _ROUNDS = 768, 5  # of the matrix product that measures a CPU: a fraction of a second


@dataclass(frozen=True)
class Device:
    """One device.

    Args:
        name: as it is named to ``--gpu``.
        title: for people.
        memory: bytes.
        bf16: peak in bfloat16, FLOP/s; None: it has no such arithmetic.
        fp32: peak in float32, FLOP/s.
        utilisation: share of the peak that is assumed.
    """

    name: str
    title: str
    memory: float
    bf16: float | None
    fp32: float
    utilisation: float = UTILISATION

    @property
    def kind(self) -> str:
        """``cpu`` or ``cuda``, as ``micro_batches.cut_rule`` takes it."""
        return "cpu" if self.name == "cpu" else "cuda"

    @property
    def usable(self) -> float:
        """Bytes for tensors."""
        return self.memory if self.kind == "cpu" else (self.memory - CONTEXT) * (1 - FRAGMENTED)

    def peak(self, *, bfloat16: bool) -> float:
        """FLOP/s; without bfloat16 in hardware it is no faster than float32."""
        return self.bf16 if bfloat16 and self.bf16 is not None else self.fp32


def device_names() -> list[str]:
    """What ``find_device`` knows."""
    return [*data_table("gpus"), "cpu"]


def find_device(
    name: str,
    memory_gib: float | None = None,
    tflops: float | None = None,
    utilisation: float | None = None,
) -> Device:
    """A device by name, or one described by memory and speed.

    Args:
        name: of the table, ``cpu`` for this machine, or any other where both figures are given.
        memory_gib: replaces the table's memory.
        tflops: replaces the table's peak.
        utilisation: replaces the assumed share of the peak.

    Raises:
        ConfigError: unknown, and not described either.
    """
    key = name.lower().replace("_", "-").replace(" ", "-")
    table = data_table("gpus")
    if key == "cpu":
        device = _this_cpu(tflops)
    elif key in table:
        row = table[key]
        bf16 = None if row["bf16"] is None else row["bf16"] * 1e12
        device = Device(key, row["title"], row["memory_gib"] * GIB, bf16, row["fp32"] * 1e12)
    elif memory_gib is not None and tflops is not None:
        device = Device(key, name, memory_gib * GIB, tflops * 1e12, tflops * 1e12)
    else:
        raise ConfigError(
            f"--gpu: unknown {name!r}{nearest(key, device_names())}; "
            "describe your own with --memory-gib and --tflops"
        )
    if memory_gib is not None:
        device = replace(device, memory=memory_gib * GIB)
    if tflops is not None:
        device = replace(device, bf16=tflops * 1e12, fp32=tflops * 1e12)
    return device if utilisation is None else replace(device, utilisation=utilisation)


def _this_cpu(tflops: float | None) -> Device:
    memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    speed = _measured_speed() if tflops is None else tflops * 1e12
    title = f"this machine's CPU, {torch.get_num_threads()} threads"
    return Device("cpu", title, memory, None, speed, CPU_UTILISATION)


def _measured_speed() -> float:
    """FLOP/s of float32 matrix products on this machine, as many threads as torch uses."""
    left, right = torch.ones(_SIDE, _SIDE), torch.ones(_SIDE, _SIDE)
    seconds = []
    for _ in range(_ROUNDS + 1):  # the first one warms up
        start = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - start)
    return 2.0 * _SIDE**3 / statistics.median(seconds[1:])
