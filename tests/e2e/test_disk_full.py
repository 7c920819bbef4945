"""A disk that fills up during a training: a clear message, nothing lost, the same command goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import write_tiny_beir
from tests.e2e.test_kill_matrix import Killed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def _mount(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["mount", *words], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, in memory, of a size that the test changes."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    done = _mount("-t", "tmpfs", "-o", "size=512m", "tmpfs", str(disk))
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False, timeout=60)


class OnDisk(Killed):
    """A project whose local state lies on the small disk."""

    @property
    def local(self) -> Path:
        return self.root / "disk" / "local"


def used(disk: Path) -> int:
    facts = os.statvfs(disk)
    return (facts.f_blocks - facts.f_bfree) * facts.f_frsize


def test_a_full_disk_is_told_and_the_same_command_goes_on(small_disk: Path, tmp_path: Path) -> None:
    write_tiny_beir(tmp_path / "data")
    calm = OnDisk(tmp_path)
    code, output = calm.launch()
    assert code == 0, output
    scores, needed = calm.metrics(), used(small_disk)
    subprocess.run(["rm", "-rf", str(calm.local)], check=True, timeout=60)
    made, told, largest = OnDisk(tmp_path), 0, 0
    # At five places of the way; the databases alone take the first part.
    for share in (0.2, 0.4, 0.6, 0.8, 0.95):
        size = int(needed * share) >> 10
        assert _mount("-o", f"remount,size={size}k", str(small_disk)).returncode == 0
        code, output = made.launch()
        assert code == 1, output
        last = output.strip().splitlines()[-1]
        told += "the disk is full; make room below" in output
        assert "same command" in output, last
        _mount("-o", "remount,size=512m", str(small_disk))  # to look, and to be able to close what is open
        assert len(made.versions()) <= 1
        largest = max(largest, used(small_disk))
    assert told == 5
    code, output = made.launch()
    assert code == 0, output
    assert "Using cached version of step `prepare`" in output
    assert made.metrics() == scores
    assert made.versions() == ["1"]
