"""Every benchmark can be started: what one of them takes from another must still be there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
IMPORT_ALL = """
import importlib, pathlib, sys
sys.path[:0] = [str(pathlib.Path().resolve()), str(pathlib.Path().resolve().parent)]
for name in sorted(path.stem for path in pathlib.Path().glob("*.py")):
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(f"{name}: {error}")
"""


def test_every_script_finds_what_it_imports():
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], cwd=BENCHMARKS, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""


def test_make_bench_names_scripts_that_exist():
    makefile = (BENCHMARKS.parent / "Makefile").read_text(encoding="utf-8")
    named = {word.removeprefix("benchmarks/") for word in makefile.split() if word.startswith("benchmarks/")}
    assert named and all((BENCHMARKS / name).is_file() for name in named), named
