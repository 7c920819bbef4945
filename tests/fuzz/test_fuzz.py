"""Every parser on its seeds and findings; and, in the slow tier, some seconds of fuzzing each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import FILES, TARGETS, seeds

SECONDS = int(os.environ.get("LLARA_FUZZ_SECONDS", "10"))


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_and_findings_raise_nothing(target: str, tmp_path: Path) -> None:
    start = tmp_path / "seeds"
    start.mkdir()
    seeds(target, start)
    rows = []
    for seed in sorted(start.iterdir()):
        place = tmp_path / f"place-{seed.name}"
        place.mkdir()
        rows.append(TARGETS[target](place, seed.read_bytes()))
    if target not in ("saved",):  # its example is cut off on purpose
        assert max(rows) > 0, "the target reads nothing, so it tests nothing"


def test_a_wrong_target_is_refused() -> None:
    assert set(FILES) <= set(TARGETS)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_fuzzing_finds_nothing(target: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed (Linux, Python 3.11 or newer)")
    command = [sys.executable, str(Path(__file__).with_name("fuzz.py")), target, f"-max_total_time={SECONDS}"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS + 120, check=False
    )
    assert done.returncode == 0, (
        f"{done.stderr[-3000:]}\nfindings: {[one.name for one in tmp_path.iterdir()]}"
    )
    assert "Done " in done.stderr  # libFuzzer's last word after its time
