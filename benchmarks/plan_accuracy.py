"""How near ``llara plan`` comes to what a step really takes, on small models on this machine's CPU or GPU.

    .venv/bin/python benchmarks/plan_accuracy.py [--rounds 1] [--device cuda]

Each case trains a few steps in a process of its own, whose memory above its level before there was a model is
the peak (resident, or what torch allocated on the GPU); operations are counted by torch as they are executed.
Writes docs/results/plan_accuracy.md, on CUDA plan_accuracy_cuda.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.plan_cases import CASES, predicted  # noqa: E402 - the folder is no package that is installed

RESULTS = ROOT / "docs" / "results"
GAUGED = {
    "cpu": "on the CPU of the machine that wrote this, in float32: the peak of resident memory",
    "cuda": "on a GPU, in float32: the peak of what torch allocated there",
}
# Large blocks go back to the system as soon as they are free, so that resident memory follows what is alive.
MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
MIB = 2**20
logger = logging.getLogger("plan_accuracy")


def measure(name: str, device: str = "cpu") -> dict[str, float]:
    """One case in a process of its own.

    Args:
        name: of ``plan_cases.CASES``.
        device: ``cpu`` or ``cuda``.

    Raises:
        RuntimeError: the process failed; says how.
    """
    environment = {**os.environ, **MALLOC, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment["ACCELERATE_USE_CPU"] = str(device == "cpu").lower()
    command = [sys.executable, "-m", "benchmarks.plan_cases", name, device]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr.strip().splitlines()[-1:]}")
    values: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return values


def main() -> int:
    """Measure and write the table; exits 1 if a figure is off by more than 15%."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--device", choices=GAUGED, default="cpu")
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    lines = [
        "# Accuracy of plans",
        "",
        "Written by `benchmarks/plan_accuracy.py`: predicted by `llara plan`, and measured "
        f"{GAUGED[chosen.device]} above its level before the model was built, and the operations that torch "
        f"counted. Medians of {chosen.rounds} runs.",
        "",
        "| case | parameters | MiB predicted | measured | off by | GFLOP predicted | counted | off by |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    worst = 0.0
    for name in CASES:
        plan = predicted(name, chosen.device)
        runs = [measure(name, chosen.device) for _ in range(chosen.rounds)]
        real = {key: statistics.median(run[key] for run in runs) for key in ("bytes", "flops")}
        off = {key: plan[key] / real[key] - 1 for key in real}
        worst = max(worst, *map(abs, off.values()))
        lines.append(
            f"| {name} | {plan['parameters'] / 1e6:.1f}M | {plan['bytes'] / MIB:.0f} "
            f"| {real['bytes'] / MIB:.0f} | {off['bytes']:+.1%} | {plan['flops'] / 1e9:.2f} "
            f"| {real['flops'] / 1e9:.2f} | {off['flops']:+.1%} |"
        )
        logger.info(lines[-1])
    page = "plan_accuracy_cuda.md" if chosen.device == "cuda" else "plan_accuracy.md"
    output = chosen.output or RESULTS / page
    output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    logger.info("wrote %s; the worst is off by %.1f%%", output, 100 * worst)
    return int(worst > 0.15)


if __name__ == "__main__":
    sys.exit(main())
