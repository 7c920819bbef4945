"""Coverage-guided fuzzing of one parser: ``python tests/fuzz/fuzz.py TARGET -max_total_time=60``.

Other arguments are libFuzzer's. A finding is written as ``crash-…`` into the current folder: it becomes
``tests/fuzz/seeds/TARGET-<what it is>``, which the default tests try from then on.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
with atheris.instrument_imports(include=["llara_core"]):
    from tests.fuzz.targets import TARGETS, seeds


def main(target: str, options: list[str]) -> None:
    """Fuzz until the options say stop; libFuzzer ends the process."""
    folder = Path(tempfile.mkdtemp(prefix="llara-fuzz-"))
    start, place = folder / "seeds", folder / "place"
    start.mkdir()
    seeds(target, start)

    def one(data: bytes) -> None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        TARGETS[target](place, data)

    atheris.Setup([sys.argv[0], "-timeout=20", "-rss_limit_mb=3000", *options, str(start)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: fuzz.py TARGET [libFuzzer's options]; targets: {' '.join(TARGETS)}")
    main(sys.argv[1], sys.argv[2:])
