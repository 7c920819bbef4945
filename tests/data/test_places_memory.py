"""Memory and speed of reading, each in a process of its own (issue 5, point 8)."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from llara_core.data.places import read_json_lines

MIB = 1 << 20
CODE = """
import sys
from pathlib import Path
from llara_core.data.places import read_json_lines, read_lines
from llara_core.errors import DataError

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024

before = peak()
rows, faults, said = 0, [], ""
try:
    for row in (read_lines if sys.argv[2] == "lines" else read_json_lines)(sys.argv[1]):
        rows += 1
        if row.fault:
            faults.append((row.number, row.fault.rule, row.size, len(row.raw)))
except DataError as error:
    said = error.rule
print(repr((peak() - before, rows, faults[:3], said)))
"""


def read(place: Path, kind: str = "json") -> tuple[float, int, list[tuple[int, str, int, int]], str]:
    """MiB that reading takes at its peak, rows, the first faults, and the rule of the error that ended it."""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc to measure memory")
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(place), kind],
        capture_output=True,
        text=True,
        check=True,
        timeout=500,
    )
    found: tuple[float, int, list[tuple[int, str, int, int]], str] = eval(done.stdout)
    return found


def one_long_line(file: Path, size: int) -> Path:
    """A row, a line of NULs that takes no place on the disk, and a row."""
    with file.open("wb") as stream:
        stream.write(b'{"a": 1}\n')
        stream.truncate(9 + size)
        stream.seek(9 + size)
        stream.write(b'\n{"a": 2}\n')
    return file


@pytest.mark.parametrize("size", [200 * MIB, pytest.param(1 << 30, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["json", "lines"])
def test_a_line_of_a_gigabyte_is_one_fault_within_bounded_memory(tmp_path, size, kind):
    """Below: the 64 MiB that a row may have are held twice at most, once in pieces and once whole."""
    used, rows, faults, said = read(one_long_line(tmp_path / "a.jsonl", size), kind)
    assert (rows, faults, said) == (3, [(2, "row_length", size, MIB)], "")
    assert used < 150


def test_a_file_without_a_line_feed_is_one_fault(tmp_path):
    file = tmp_path / "a.jsonl"
    with file.open("wb") as stream:
        stream.truncate(200 * MIB)
    used, rows, faults, _ = read(file)
    assert (rows, faults) == (1, [(1, "row_length", 200 * MIB, MIB)])
    assert used < 150


def test_memory_is_flat_in_the_rows(tmp_path):
    rows = b"".join(b'{"_id": "%d", "text": "%s"}\n' % (row, b"some words " * 8) for row in range(10_000))
    used = []
    for times in (1, 40):  # 1.2 and 47 MB
        (tmp_path / "a.jsonl").write_bytes(rows * times)
        found = read(tmp_path / "a.jsonl")
        assert found[1:] == (10_000 * times, [], "")
        used.append(found[0])
    assert used[1] < used[0] + 8


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".xz"])
def test_a_bomb_takes_little_memory_and_stops(tmp_path, suffix):
    """2 GiB of zeros in some megabytes, or in 64 kB."""
    if suffix == ".gz":
        packed = gzip.compress(bytes(64 * MIB)) * 32
    elif suffix == ".zst":
        packed = zeros_in_one_frame()
    else:
        import lzma

        packed = lzma.compress(bytes(64 * MIB), preset=0) * 32
    (tmp_path / f"a.jsonl{suffix}").write_bytes(packed)
    used, rows, _, said = read(tmp_path / f"a.jsonl{suffix}")
    assert (rows, said) == (0, "expansion")
    assert used < 300


def zeros_in_one_frame() -> bytes:
    """2 GiB of zeros in one zstd frame, made without holding them."""
    compressor = zstandard.ZstdCompressor().compressobj()
    return b"".join(compressor.compress(bytes(16 * MIB)) for _ in range(128)) + compressor.flush()


def test_reading_is_as_fast_as_pythons_own_loop(tmp_path):
    """No slower than a bare loop of ``json.loads``, although each row comes with its number and place.

    Both are timed in turns and the best is taken: other work on the machine slows both.
    """
    import time

    file = tmp_path / "a.jsonl"
    text = "a passage of some fifty words " * 8
    with file.open("w") as stream:
        stream.writelines(
            json.dumps({"_id": str(row), "title": "t", "text": text}) + "\n" for row in range(20_000)
        )
    best = {"ours": 1e9, "theirs": 1e9}
    for _ in range(5):
        begun = time.process_time()
        assert sum(row.record is not None for row in read_json_lines(file)) == 20_000
        best["ours"] = min(best["ours"], time.process_time() - begun)
        begun = time.process_time()
        with file.open("rb") as lines:
            assert sum(json.loads(line) is not None for line in lines) == 20_000
        best["theirs"] = min(best["theirs"], time.process_time() - begun)
    assert best["ours"] < best["theirs"]
