"""What is no plain file, is not there, or changes while it is read (issue 5, point 8)."""

from __future__ import annotations

import gzip
import lzma
import os
import socket
import time
import zipfile
from pathlib import Path

import pytest
import zstandard

from llara_core.data.places import Limits, open_place, read_lines
from llara_core.errors import DataError, InputError

TEXT = b"".join(b'{"_id": "%d", "text": "row %d"}\n' % (row, row * 7919) for row in range(5000))
PACK = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


def pack(data: bytes, suffix: str) -> bytes:
    return PACK[suffix](data)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def refusal(place: str | Path, **options: Limits) -> DataError:
    with pytest.raises(DataError) as caught, open_place(place, **options) as stream:
        while stream.read1(1 << 16):
            pass
    return caught.value


def test_what_is_no_plain_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        (tmp_path / "folder.jsonl").mkdir()
        (tmp_path / "link.jsonl").symlink_to("pipe.jsonl")
        begun = time.monotonic()
        found = {
            "named pipe": tmp_path / "pipe.jsonl",
            "pipe (FIFO)": tmp_path / "link.jsonl",
            "a socket": tmp_path / "s",
            "a folder": tmp_path / "folder.jsonl",
            "a device": Path("/dev/zero"),
        }
        for said, place in found.items():
            error = refusal(place)
            assert (error.rule, said in str(error)) == ("regular_file", True), str(error)
    assert time.monotonic() - begun < 60  # nobody ever writes into the pipe: waiting for it would not end


def test_a_pipe_put_in_the_place_of_a_file_is_not_waited_for(tmp_path, monkeypatch):
    """Between looking and opening: the opened thing is looked at again."""
    file = write(tmp_path / "a.jsonl", TEXT)
    before = file.stat()
    file.unlink()
    os.mkfifo(file)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", lambda _self, **_options: before)
        assert refusal(file).rule == "regular_file"


@pytest.mark.parametrize("place", ["gone.jsonl", "a.jsonl/b.jsonl", "broken.jsonl"])
def test_what_is_not_there_is_said_to_be_missing(tmp_path, place):
    write(tmp_path / "a.jsonl", TEXT)
    (tmp_path / "broken.jsonl").symlink_to("nowhere")
    error = refusal(tmp_path / place)
    assert (error.rule, error.file) == ("file_exists", tmp_path / place)


def test_links_that_lead_to_each_other_and_impossible_names(tmp_path):
    (tmp_path / "a.jsonl").symlink_to("b.jsonl")
    (tmp_path / "b.jsonl").symlink_to("a.jsonl")
    assert "symbolic links" in str(refusal(tmp_path / "a.jsonl"))
    assert refusal(f"{tmp_path}/a\0b").rule == "readable"
    assert "name too long" in str(refusal(tmp_path / ("x" * 300))).lower()


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("change", ["grown", "cut", "touched"])
def test_a_file_that_changes_while_it_is_read_is_found(tmp_path, suffix, change):
    noise = os.urandom(3 << 20)  # longer than what is read ahead
    file = write(tmp_path / f"a{suffix}", pack(noise, suffix))
    with pytest.raises(DataError) as caught, open_place(file) as stream:
        stream.read1(10)
        if change == "grown":
            with file.open("ab") as more:
                more.write(pack(b"more", suffix))
        elif change == "cut":
            os.truncate(file, (5 << 19))
        else:
            os.utime(file, ns=(1, 1))
        while stream.read1(1 << 16):
            pass
    assert caught.value.rule == "changed_while_read"  # also where packed data end early by it


def test_a_zip_that_changes_while_it_is_read_is_found(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("rows.txt", os.urandom(3 << 20))
    with (
        pytest.raises(DataError, match="changed while it was read"),
        open_place(tmp_path / "a.zip/rows.txt") as stream,
    ):
        stream.read1(10)
        os.utime(tmp_path / "a.zip", ns=(1, 1))
        stream.read()


def test_a_file_replaced_by_another_is_read_as_it_was(tmp_path):
    """The usual way of writing: to a new file that then takes the name. What is open stays what it was."""
    file = write(tmp_path / "a.jsonl", TEXT)
    with open_place(file) as stream:
        write(tmp_path / "new", b"other\n").replace(file)
        assert stream.read() == TEXT


def test_files_are_closed(tmp_path):
    open_files = Path("/proc/self/fd")
    if not open_files.exists():
        pytest.skip("needs /proc")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jsonl.gz", gzip.compress(TEXT))
    write(tmp_path / "a.jsonl.gz", gzip.compress(TEXT))
    write(tmp_path / "bad.jsonl.gz", TEXT)
    before = len(list(open_files.iterdir()))
    for place in ("a.zip/a.jsonl.gz", "a.jsonl.gz", "bad.jsonl.gz", "a.zip/none"):
        for _ in range(5):
            try:
                assert next(read_lines(tmp_path / place)).raw  # and left there
            except InputError:
                continue
    assert len(list(open_files.iterdir())) == before
