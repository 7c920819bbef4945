"""How much of an adaptation step is padding: rows as drawn, padded to the longest, against ours.

    .venv/bin/python benchmarks/padding.py

Nothing is trained: the batches are made and their positions counted. The texts are those of
``adaptation_task.py``. Writes docs/results/padding.md.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]  # tests.oracles, adaptation_task

from adaptation_task import OURS, PLAIN, Task  # noqa: E402
from adaptation_texts import REAL, WORDS, Shape, make_pairs, read_texts  # noqa: E402

RESULTS = ROOT / "docs" / "results" / "padding.md"
# (rows a step, most tokens of a row, steps): small steps need more of them to fill a bucket of 16.
CASES = ((8, 1024, 64), (32, 1024, 32), (256, 1024, 16), (32, 256, 32))
logger = logging.getLogger("padding")


def main() -> int:
    """Count and write the table; exits 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    output = parser.parse_args().output
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    prompts, texts, source = read_texts()
    lines = [
        "# Padding",
        "",
        "Written by `make bench` (`benchmarks/padding.py`): share of an adaptation step's positions that "
        f"are padding; {source}, prompts of the template `llama2vec`, the CPU rule for micro-batches, one "
        "process.",
        "",
        "| rows a step | most tokens of a row | rows | llara | as drawn, padded to the longest |",
        "|---:|---:|---:|---:|---:|",
    ]
    # No weights are needed to count positions.
    model = SimpleNamespace(config=SimpleNamespace(vocab_size=WORDS + 16))
    for batch, length, steps in CASES:
        shape = Shape(16, 1, length, batch, steps, "cpu")
        task = Task(shape, prompts, model, make_pairs(shape, REAL, prompts, texts))
        shares = " | ".join(f"{task.padding(way):.1%}" for way in (OURS, PLAIN))
        lines.append(f"| {batch} | {length:,} | {len(task.pairs):,} | {shares} |")
        logger.info(lines[-1])
    output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    logger.info("wrote %s", output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
